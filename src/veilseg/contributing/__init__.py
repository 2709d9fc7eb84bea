"""The site's side of training together: protect labelled cases, and give the pairs to a fit."""
