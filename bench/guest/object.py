"""Objects and floats: attribute access, method calls, allocation."""


class Vector:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def add(self, other):
        return Vector(self.x + other.x * 0.5, self.y - other.y * 0.25)

    def norm(self):
        return (self.x * self.x + self.y * self.y) ** 0.5


vector = Vector(1.0, 2.0)
total = 0.0
for i in range(150000):
    vector = vector.add(Vector(i % 7, i % 3))
    total += vector.norm()
    if total > 1e6:
        total -= 1e6
        vector = Vector(1.0, 1.0)
print(repr(total))
