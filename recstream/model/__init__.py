"""The SASRec model, its bundle on disk and its ranking. Importing this package imports no torch.

`manifest`, `bundle`, `vocabulary`, `popularity`, `config`, `sequences` and `settings` need no torch either; `net`,
`weights` and `ranking` do.
"""
