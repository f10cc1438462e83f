"""The steps that make the site, for `tools.docs`.

`cells`: the cells of a notebook as a page shows them. `api`: the page of a source notebook. `links`: links of prose. `project`: the whole
Quarto project in `_proc/`. `finish`: what is left to do to the HTML, and what must not be wrong with it.
"""


class DocsError(Exception):
    "The site cannot be built; the message says what to change."
