"""What people look at: previews, contact sheet, report."""
