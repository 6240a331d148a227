"""From run folders to one page that can be read, printed and sent."""
