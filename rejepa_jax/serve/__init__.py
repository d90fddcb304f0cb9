"""Search over HTTP: the API, the page, and what keeps a server up while strangers use it."""
