//! Making the running switch equal to a file.
use super::{state::State, switch::Inner};
use crate::{config::SwitchSpec, control::api::ApiError};

impl Inner {
    pub(super) fn apply(
        &self,
        _state: &mut State,
        _spec: &SwitchSpec,
        _dry: bool,
    ) -> Result<Vec<String>, ApiError> {
        Ok(Vec::new())
    }
}
