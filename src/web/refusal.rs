//! What is said to whoever asks for something that there is not, or that they may not have.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::json;
use crate::control::api::{ApiError, ErrorKind};

/// An [`ApiError`] with its HTTP status.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: ApiError,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            error: ApiError::invalid(message),
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let status = match error.kind {
            ErrorKind::Failed => StatusCode::CONFLICT,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        };
        Self { status, error }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, json::body(&self.error)).into_response()
    }
}
