"""JSON, written and read: by the C accelerator, and by the module's Python code."""
import json

data = [{"a": i, "b": [1.5 * i, "x" * (i % 10)], "c": {"k": None, "t": True}} for i in range(3000)]
for _ in range(12):
    text = json.dumps(data)
    data = json.loads(text)
slow = "".join(json.encoder._make_iterencode(  # as json.dump with indent=2 does
    {}, None, json.encoder.encode_basestring_ascii, "  ", float.__repr__, ": ", ",", True, False, False)(data, 0))
print(len(text), len(slow), slow[-40:])
