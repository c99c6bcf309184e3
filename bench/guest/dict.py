"""Dictionaries and strings."""
counts = {}
for i in range(120000):
    key = "k%d" % (i % 5000)
    counts[key] = counts.get(key, 0) + len(key)
    if i % 3 == 0:
        other = key.upper().replace("K", "z")
        counts[other] = counts.get(other, 0) + 1
    if i % 1000 == 0:
        words = " ".join(sorted(counts)).split()
print(sum(counts.values()), len(counts), len(words), words[:3])
