"""The pure core: tables, arrays and configuration in, values out."""
