"""What stops the seeder and is the person's to solve."""


class SeedingProblem(Exception):
    """A sentence saying what is wrong and what to do; nothing was changed in the database."""
