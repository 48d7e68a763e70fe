"""Widgets: one concept each; they draw lines and know no kernel."""
