//! What the help says, and what is understood of a command line.

use clap::CommandFactory;
use insta::assert_snapshot;

use super::*;

fn help_of(path: &[&str]) -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut command = &mut command;
    for name in path {
        command = command.find_subcommand_mut(name).expect("a command");
    }
    command.render_long_help().to_string()
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_bridges_example_is_one_line_in_a_narrow_terminal_too() {
    let mut command = Cli::command().term_width(80);
    let help = command.find_subcommand_mut("stdio").expect("a command").render_long_help().to_string();
    let example = r#"  echo '{"jsonrpc":"2.0","id":1,"method":"initialize"}' | trunkline stdio"#;
    assert!(help.lines().any(|line| line == example), "{help}");
}

#[test]
fn the_help_says_what_to_do_first() {
    assert_snapshot!(help_of(&[]), @r#"
    One local URL in front of every MCP server you use

    Usage: trunkline [OPTIONS] <COMMAND>

    Commands:
      serve        Run the daemon in the foreground
      init         Write a first configuration, with comments, where there is none
      check        Read the configuration and say what is wrong with it
      add          Try a server, and write it into the configuration
      import       Take over the servers that other clients have
      connect      Give a client the one URL, in its own file
      stdio        Speak to a client over standard input and output
      remove       Take a server out of the configuration
      enable       Switch a server on
      disable      Switch a server off, and keep what is written about it
      rename       Call a server otherwise; its tools get other names by that
      status       Show each server: its state, and what to do about those that are not ready
      tools        List the tools, by the names clients see
      call         Call a tool through the daemon, as a client would
      logs         Show what happened to a server lately, and what it wrote to its standard error
      explain      Say what of a server a client cannot have, and why
      login        Sign in to a server that wants it, in a browser
      logout       Sign out of a server, and have its tokens revoked
      pins         Show which tools are not as they were pinned, and take what is new
      reload       Read the configuration anew and say what changed
      restart      Close a server's connection or process and start it anew
      doctor       Look for what is wrong between clients and servers, and say what mends it
      service      Run the daemon as a service of yours, started at login
      schema       Print the JSON schema of the configuration, for editors
      completions  Print what makes a shell complete the commands
      man          Print a page of the manual
      help         Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>
              Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

      -h, --help
              Print help

      -V, --version
              Print version

    Try it:
      trunkline serve --demo             serves a small demo server; nothing else is needed
      trunkline call demo__add '{"a": 2, "b": 3}'

    Use it:
      1. Write your servers into ~/.config/trunkline/config.toml, as Codex has them, or have
         `trunkline add` try and write each:
             [mcp_servers.linear]
             url = "https://mcp.linear.app/mcp"
             bearer_token_env_var = "LINEAR_API_KEY"
      2. trunkline check                 says what is wrong with the file, if anything is
      3. trunkline serve                 runs the daemon
      4. Give every client the one URL http://127.0.0.1:6270/mcp

    Exit codes: 0 fine, 1 failed, 2 wrong usage, 70 hung, 75 address or state directory taken,
    78 configuration wrong.
    "#);
}

#[test]
fn each_command_explains_itself() {
    assert_snapshot!(help_of(&["serve"]), @r"
    Run the daemon in the foreground

    Usage: trunkline serve [OPTIONS]

    Options:
          --config <FILE>
              Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

          --demo
              Serve a small demo server instead of those configured

          --listen <[ADDRESS:]PORT>
              Listen here instead: a port, or a loopback address and port

      -h, --help
              Print help

    Examples:
      trunkline serve                            as configured
      trunkline serve --demo                     a demo server instead, to try it out
      trunkline serve --listen 7000              another port
      TRUNKLINE_LOG__LEVEL=debug trunkline serve
                                                 any key of the configuration can be a variable
    ");
    assert_snapshot!(help_of(&["status"]), @r#"
    Show each server: its state, and what to do about those that are not ready

    Usage: trunkline status [OPTIONS]

    Options:
          --config <FILE>
              Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

          --json
              Print the daemon's own report, as /health has it

          --watch
              Show it again every two seconds, until Ctrl-C

      -h, --help
              Print help

    Exits with 0 if every enabled server is ready, with 1 if one is not or no daemon runs.
    For scripts:
      trunkline status --json | jq -r '.servers[] | select(.state != "ready") | .name'
    "#);
}

#[test]
fn commands_about_tools_explain_themselves() {
    assert_snapshot!(help_of(&["tools"]), @r#"
    List the tools, by the names clients see

    Usage: trunkline tools [OPTIONS] [SERVER]

    Arguments:
      [SERVER]
              Only those of this server

    Options:
          --config <FILE>
              Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

          --find <WORDS>
              Only those that fit these words, the best first

          --profile <NAME>
              Only those that this profile shows, under its names

          --tokens
              Say how many tokens the definitions are, and how many with `expose = "search"`

          --json
              Print names, descriptions and schemas as JSON

      -h, --help
              Print help

    Examples:
      trunkline tools                            of all servers
      trunkline tools linear                     of one
      trunkline tools --find 'create an issue'   that fit these words, the best first
      trunkline tools --profile work             as clients of /mcp/work see them
      trunkline tools linear --json              with descriptions and schemas
      trunkline tools --tokens                   what each server's definitions weigh
      trunkline tools linear --tokens            what each tool's weighs
    "#);
    assert_snapshot!(help_of(&["call"]), @r#"
    Call a tool through the daemon, as a client would

    Usage: trunkline call [OPTIONS] <NAME> [ARGUMENTS]

    Arguments:
      <NAME>
              The tool, by the name clients see

      [ARGUMENTS]
              Its arguments, a JSON object

    Options:
          --config <FILE>
              Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

          --json
              Print the whole result as JSON

      -h, --help
              Print help

    Text is printed as it is, anything else as JSON. Exits with 1 if the tool reports an error.

    Examples:
      trunkline call memory__read_graph
      trunkline call files__read_file '{"path": "/tmp/notes.txt"}'
    "#);
    assert_snapshot!(help_of(&["logs"]), @r"
    Show what happened to a server lately, and what it wrote to its standard error

    Usage: trunkline logs [OPTIONS] [SERVER]

    Arguments:
      [SERVER]
              Only this server

    Options:
          --config <FILE>
              Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

      -h, --help
              Print help
    ");
    assert_snapshot!(help_of(&["restart"]), @r"
    Close a server's connection or process and start it anew

    Usage: trunkline restart [OPTIONS] <SERVER>

    Arguments:
      <SERVER>
              The server, by its name in the configuration

    Options:
          --config <FILE>
              Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

      -h, --help
              Print help
    ");
}

#[test]
fn the_help_of_reload_says_that_it_is_seldom_needed() {
    assert_snapshot!(help_of(&["reload"]), @r"
    Read the configuration anew and say what changed

    Usage: trunkline reload [OPTIONS]

    Options:
          --config <FILE>
              Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

      -h, --help
              Print help

    The daemon does this by itself when the file changes, and upon SIGHUP; secrets that are read
    from files of their own are not watched. What did not change keeps its connection or process.
    If anything is wrong with the configuration, nothing changes, and the command exits with 78.
    ");
}

#[test]
fn a_guarded_command_keeps_its_own_flags() {
    let cli = Cli::try_parse_from(["trunkline", "__guard", "3", "--", "npx", "--config", "x", "-y"]);
    let Command::Guard { args } = cli.expect("parsed").command else { panic!("another command") };
    assert_eq!(args, ["3", "--", "npx", "--config", "x", "-y"]);
}

#[test]
fn the_configuration_may_be_named_before_or_after_the_command() {
    for line in [["trunkline", "--config", "x.toml", "check"], ["trunkline", "check", "--config", "x.toml"]] {
        assert_eq!(Cli::try_parse_from(line).expect("parsed").config, Some(PathBuf::from("x.toml")));
    }
}
