"""The steps that make and change the tables, in order. A step that was released is never edited."""
