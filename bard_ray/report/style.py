"""The style sheet of the HTML report.

Light and dark, narrow and wide, no font or image from elsewhere.
"""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f5f1; --card: #ffffff; --ink: #1d2530; --soft: #5c6672; --line: #dcdad3; --grid:
  #e3e2dc; --accent: #1f5fbf;
  --series-1: #1f5fbf; --series-2: #d9730d; --series-3: #6b7480; --series-4: #b83280; --series-5:
  #2a8a6a; --series-6: #8a6d1a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181e; --card: #1c222b; --ink: #e6e9ee; --soft: #9aa5b3; --line: #323b48; --grid:
    #303844; --accent: #7fb0ff;
    --series-1: #7fb0ff; --series-2: #ffa657; --series-3: #a3adba; --series-4: #f288c0; --series-5:
    #63cfa8; --series-6: #d9bd5f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
p.lede, figcaption, .note { color: var(--soft); }
p.lede { margin: 0; }
.note, figcaption { font-size: .86rem; }
.cards, .figures { display: grid; gap: 1rem; }
.cards { grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); margin-top: 1.6rem; }
.figures { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.card, figure, .scroll, details { background: var(--card); border: 1px solid var(--line);
border-radius: .6rem; } .card { padding: .9rem 1.1rem; }
.card .value { font-size: 1.9rem; font-weight: 650; color: var(--accent); font-variant-numeric:
tabular-nums; } .card .what { font-weight: 600; }
figure { margin: 0; padding: 1rem 1.1rem; }
figure svg { display: block; width: 100%; height: auto; font-family: inherit; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { margin-top: .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size:
.92rem; } th, td { padding: .38rem .8rem; text-align: right; border-top: 1px solid var(--line);
white-space: nowrap; } thead th { font-weight: 600; color: var(--soft); border-top: 0; }
thead tr:first-child th { color: var(--ink); padding-top: .7rem; }
tbody th { font-weight: 500; }
th.left, td.left { text-align: left; }
th.start, td.start { border-left: 1px solid var(--line); }
tr.held-out th { color: var(--accent); }
.bar { display: block; height: .7rem; border-radius: .35rem; background: var(--series-1); min-width:
2px; } td.wide { width: 60%; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; margin: 0 0 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
details { padding: .7rem 1rem; margin-top: .6rem; }
summary { cursor: pointer; font-weight: 600; }
summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset:
2px; } pre {
  overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .84rem; line-height:
  1.45; font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; unicode-bidi:
  plaintext;
}
@media print { body { background: none; } figure, .card, .scroll, tr { break-inside: avoid; } }
"""
