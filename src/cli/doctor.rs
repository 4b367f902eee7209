//! `doctor`: asks the daemon for an examination; that it cannot be asked is a finding too.

use std::io::Write;

use super::{CliError, Remote, output};
use crate::{
    control::{
        api::{DoctorRequest, Request, Response},
        client::ClientError,
    },
    doctor::{Report, Severity},
    names::shown,
};

impl Remote {
    /// Fails without a word, after the report, if something is broken.
    pub(super) fn doctor(
        &self,
        request: DoctorRequest,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        let scope = request.scope().to_string();
        let report = match self.client.request(&Request::Doctor(request)) {
            Ok(Response::Doctor(report)) => report,
            Ok(_) => return Err(self.client.unexpected().into()),
            Err(error @ ClientError::Unreachable { .. }) => {
                let socket = shown(self.client.path());
                let reason = error.to_string();
                let known = format!("connect to {socket}: ");
                let reason = reason.strip_prefix(&known).unwrap_or(&reason);
                Report::unreachable(scope, &socket, reason)
            }
            Err(error) => return Err(error.into()),
        };
        if self.json {
            output::json_value(out, &report)?;
        } else {
            output::doctor_report(out, &report)?;
        }
        out.flush()?;
        match report.verdict {
            Severity::Broken => Err(CliError::Said(1)),
            _ => Ok(()),
        }
    }
}
