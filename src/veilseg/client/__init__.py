"""The site's side of the wire. The only part of the package that opens connections."""
