"""The label joiner: reported labels into the documents of their requests."""
