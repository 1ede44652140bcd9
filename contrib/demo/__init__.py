"""`make demo`: real mail through a real Postfix with both daemons beside it, told so that all can follow."""
