"""Ends of a request that are no answer, each a result with a typed error (RFC 9457's `type`)."""

from uuid import UUID

from recstream.messages.inference import InferenceResult, ResultError, Status

BAD_RECORD = "/problems/bad-record"
MODEL_ERROR = "/problems/model-error"
CANCELLED = "/problems/cancelled"
EXPIRED = "/problems/expired"


def failed(request_id: UUID, problem: ResultError, *, model_version: str | None = None) -> InferenceResult:
    """Return the result of a request that could not be answered."""
    return InferenceResult(request_id=request_id, status=Status.FAILED, error=problem, model_version=model_version)


def cancelled(request_id: UUID) -> InferenceResult:
    """Return the result that a caller's cancellation is."""
    error = ResultError(CANCELLED, "The request was cancelled", "Its caller took it back before it was answered.")
    return InferenceResult(request_id=request_id, status=Status.CANCELLED, error=error)


def expired(request_id: UUID, detail: str) -> InferenceResult:
    """Return the result of a request whose time is over; `detail` is a sentence that says what passed."""
    return InferenceResult(
        request_id=request_id, status=Status.EXPIRED, error=ResultError(EXPIRED, "The request expired", detail)
    )
