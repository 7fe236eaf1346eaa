"""Count, mean and sum of squared deviations of numbers: enough for means with intervals, and mergeable."""

from msgspec import Struct


class Moments(Struct, frozen=True):
    """Of `count` numbers; `squares` is the sum of their squared deviations from `mean`."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def variance(self) -> float:
        """The unbiased variance; 0 for fewer than two numbers."""
        return self.squares / (self.count - 1) if self.count > 1 else 0.0

    def add(self, value: float) -> "Moments":
        """These numbers and one more."""
        count = self.count + 1
        delta = value - self.mean
        mean = self.mean + delta / count
        return Moments(count, mean, self.squares + delta * (value - mean))

    def merge(self, other: "Moments") -> "Moments":
        """These numbers and those of another."""
        if not other.count:
            return self
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * other.count / count
        return Moments(count, mean, self.squares + other.squares + delta * delta * self.count * other.count / count)
