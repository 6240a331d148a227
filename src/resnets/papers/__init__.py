"""What the papers print, as data: tables that can be reproduced, row by row."""
