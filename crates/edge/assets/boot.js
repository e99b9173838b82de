// Starts the page once its frame is painted: to fetch and to compile the parts before would hold the first picture up. All are
// asked for at once, and not each by the one that needs it.

function start() {
  return Promise.all([import('./app.js'), import('./dom.js'), import('./store.js'), import('./servers.js'), import('./detail.js'),
    import('./chart.js'), import('./lists.js'), import('./tools.js'), import('./form.js')]);
}

// A page that nobody sees is painted when somebody comes; until then its title says how things are.
if (document.hidden) start();
else requestAnimationFrame(() => setTimeout(start));
