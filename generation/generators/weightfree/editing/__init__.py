"""Parts of attribute editing: in go a crop, the areas of hair and skin and a strength, out come changes of colour."""
