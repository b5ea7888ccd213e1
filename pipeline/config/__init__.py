"""The configuration: sections of plain data, read from YAML with every problem reported at once.

``sections`` says what the keys are, ``load`` reads them, ``checks`` finds what no single key can know.
"""
