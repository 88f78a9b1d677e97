"""How well fresh networks do on condensed sets and on coresets."""
