"""Invoices (R54): one for each purchase, numbered without gaps for each seller; credit notes correct them."""
