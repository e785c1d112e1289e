"""HTTP code that the API and the web pages share."""
