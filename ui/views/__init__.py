"""The pages, one file each; `ui/app.py` lists them."""
