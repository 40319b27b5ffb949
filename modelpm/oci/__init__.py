"""The OCI vocabulary: values that are well formed because they exist. No input or output here."""
