//! Paths are put into their normal form in the window, before the head is read: all that reads it sees that form.

use super::super::Exchange;
use crate::http1::{HeadError, head_end, path_span};
use crate::path::{NoNormalForm, PathRules, normal_path};
use crate::window::Window;
use crate::worker::Worker;

impl Exchange {
    /// Normalises the path of a head that is complete and no longer than `head_max`, where the listener asks for it. Doing
    /// so again changes nothing. A head that is too long stays so, lest it depended on segmentation what becomes of it.
    ///
    /// # Errors
    /// The path has no normal form, or the head does not fit with it.
    pub(super) fn normalise_path(
        &mut self,
        window: &mut Window,
        head_max: usize,
        worker: &mut Worker,
    ) -> Result<(), HeadError> {
        let listener = self.attempt.snapshot().and_then(|snapshot| snapshot.listener(self.listener));
        let rules = listener.map_or_else(PathRules::default, |listener| listener.routes.paths);
        if rules == PathRules::default() {
            return Ok(());
        }
        let length = head_end(window.live(), self.scanned).filter(|&length| length <= head_max);
        let Some(length) = length else { return Ok(()) };
        let head = window.live().get(..length).unwrap_or_default();
        let Some(span) = path_span(head) else { return Ok(()) };
        let path = head.get(span.clone()).unwrap_or_default();
        let scratch = &mut worker.scratch;
        scratch.value.clear();
        if normal_path(path, rules, &mut scratch.value).map_err(|NoNormalForm| HeadError::Target)? {
            scratch.edits.clear();
            scratch.edits.replace(span, &scratch.value);
            self.apply_edits(window, length, worker)?;
            // The head's end is elsewhere now.
            self.scanned = 0;
        }
        Ok(())
    }
}
