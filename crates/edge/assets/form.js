// A form made from a tool's JSON schema. What has no field of its own (lists, objects, alternatives) is written as JSON.

import { attr, el, put } from './dom.js';

const DEEP = 'As JSON';

/** The one type of a schema beside null; undefined if it may be several. */
function typeOf(schema) {
  const types = [schema.type].flat().filter((it) => it && it !== 'null');
  return types.length === 1 ? types[0] : undefined;
}

export class Form {
  constructor(schema) {
    this.schema = schema && typeof schema === 'object' ? schema : {};
    const properties = Object.entries(this.schema.properties ?? {});
    const required = new Set(Array.isArray(this.schema.required) ? this.schema.required : []);
    this.fields = properties.map(([name, it]) => field(name, it && typeof it === 'object' ? it : {}, required.has(name)));
    this.fields.sort((one, other) => other.required - one.required);
    // A schema that is not a plain list of properties can only be written whole.
    this.whole = !properties.length && Boolean(this.schema.anyOf || this.schema.oneOf || this.schema.allOf || this.schema.$ref || this.schema.additionalProperties);
    this.text = el('textarea', { rows: '6', spellcheck: 'false', class: 'code', id: 'arguments-json' });
    this.problem = el('p', { class: 'problem', id: 'arguments-problem' });
    attr(this.text, 'aria-describedby', 'arguments-problem');
    this.json = el('div', { class: 'field' }, el('label', { for: 'arguments-json', text: 'Arguments, as JSON' }), this.text, this.problem);
    this.form = el('div', { class: 'fields' }, this.fields.length ? this.fields.map((it) => it.node) : el('p', { class: 'muted', text: 'It takes no arguments.' }));
    this.switch = el('button', { type: 'button', class: 'quiet', 'aria-pressed': 'false', text: 'Write as JSON', on: { click: () => this.turn(this.json.hidden) } });
    this.node = el('div', {}, this.form, this.json);
    this.turn(this.whole, true);
  }

  turn(json, first = false) {
    if (json && !first) {
      const { value } = this.read();
      this.text.value = JSON.stringify(value ?? {}, null, 2);
    } else if (json) this.text.value = '{}';
    attr(this.json, 'hidden', !json);
    attr(this.form, 'hidden', json);
    attr(this.switch, 'aria-pressed', json);
  }

  /** The arguments; or the field to be mended. */
  read() {
    if (!this.json.hidden) {
      const outcome = parse(this.text.value || '{}');
      const object = outcome.value && typeof outcome.value === 'object' && !Array.isArray(outcome.value);
      put(this.problem, outcome.error ?? (object ? '' : 'The arguments are a JSON object.'));
      attr(this.text, 'aria-invalid', Boolean(this.problem.textContent));
      return this.problem.textContent ? { wrong: this.text } : { value: outcome.value };
    }
    const value = {};
    let wrong = null;
    for (const it of this.fields) {
      const outcome = it.read();
      put(it.problem, outcome.error ?? '');
      attr(it.input, 'aria-invalid', Boolean(outcome.error));
      if (outcome.error) wrong ??= it.input;
      else if (outcome.value !== undefined) value[it.name] = outcome.value;
    }
    return { value, wrong };
  }
}

function parse(text) {
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    return { error: `This is no JSON: ${error.message}` };
  }
}

let ids = 0;

function field(name, schema, required) {
  const id = `field-${(ids += 1)}`;
  const type = typeOf(schema);
  const options = Array.isArray(schema.enum) ? schema.enum : null;
  const made = options ? choice(options, schema, required)
    : type === 'boolean' ? choice([true, false], schema, required)
    : type === 'number' || type === 'integer' ? number(type, schema)
    : type === 'string' ? string(schema)
    : deep(schema);
  const { input, read, hint } = made;
  const problem = el('p', { class: 'problem', id: `${id}-problem` });
  const help = el('p', { class: 'help', id: `${id}-help`, text: [schema.description, hint].filter((it) => typeof it === 'string' && it).join(' — ') });
  attr(input, 'id', id);
  attr(input, 'aria-describedby', `${id}-help ${id}-problem`);
  attr(input, 'aria-required', required);
  const label = el('label', { for: id }, el('code', { text: name }), el('span', { class: 'muted', text: `${type ?? (options ? 'choice' : 'any')}${required ? '' : ', optional'}` }));
  return {
    name, input, problem, required,
    node: el('div', { class: 'field' }, label, input, help, problem),
    read() {
      const outcome = read();
      if (outcome.value === undefined && !outcome.error && required) return { error: `${name} is needed.` };
      return outcome;
    },
  };
}

function choice(options, schema, required) {
  const input = el('select', {}, el('option', { value: '', text: required ? 'Choose' : 'Not given' }),
    options.map((it, at) => el('option', { value: String(at), text: typeof it === 'string' ? it : JSON.stringify(it) })));
  const given = options.findIndex((it) => it === schema.default);
  if (given >= 0) input.value = String(given);
  return { input, read: () => ({ value: input.value === '' ? undefined : options[Number(input.value)] }) };
}

function number(type, schema) {
  const input = el('input', { type: 'number', step: type === 'integer' ? '1' : 'any', min: schema.minimum, max: schema.maximum, inputmode: type === 'integer' ? 'numeric' : 'decimal' });
  if (typeof schema.default === 'number') input.value = String(schema.default);
  const bounds = [schema.minimum !== undefined ? `at least ${schema.minimum}` : null, schema.maximum !== undefined ? `at most ${schema.maximum}` : null];
  return {
    input,
    hint: bounds.filter(Boolean).join(', '),
    read() {
      if (input.validity.badInput) return { error: 'This is no number.' };
      if (input.value === '') return { value: undefined };
      const value = Number(input.value);
      return type === 'integer' && !Number.isInteger(value) ? { error: 'This has to be a whole number.' } : { value };
    },
  };
}

function string(schema) {
  const input = el('textarea', { rows: '1', spellcheck: 'false', placeholder: sample(schema) });
  if (typeof schema.default === 'string') input.value = schema.default;
  return { input, hint: typeof schema.format === 'string' ? schema.format : '', read: () => ({ value: input.value === '' ? undefined : input.value }) };
}

function deep(schema) {
  const input = el('textarea', { rows: '3', spellcheck: 'false', class: 'code', placeholder: sample(schema) ?? (typeOf(schema) === 'array' ? '[]' : typeOf(schema) === 'object' ? '{}' : null) });
  if (schema.default !== undefined) input.value = JSON.stringify(schema.default);
  return { input, hint: DEEP, read: () => (input.value.trim() === '' ? { value: undefined } : parse(input.value)) };
}

function sample(schema) {
  const first = Array.isArray(schema.examples) ? schema.examples[0] : undefined;
  if (first === undefined) return null;
  return typeof first === 'string' ? first : JSON.stringify(first);
}
