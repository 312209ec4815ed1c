"""What commands show: tables, lines and JSON. They decide nothing."""
