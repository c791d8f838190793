"""Why a training ends without a model."""


class TrainingRefused(Exception):
    """An expected failure; the text is one sentence for a person, with the remedy."""
