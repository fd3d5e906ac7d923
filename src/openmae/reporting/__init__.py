"""Results for people: pictures, the report of `openmae check`, and the demo."""
