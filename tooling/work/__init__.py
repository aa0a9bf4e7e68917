"""Work done item by item: side by side, with resume, each file marked before it is published."""
