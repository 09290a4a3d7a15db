//! What the kernel makes of something that does not change while a call lasts, asked for once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A process that lives long may see its tools and its kernel's settings replaced.
const KEPT: Duration = Duration::from_secs(60);

/// Answers by question, each for a minute.
pub(crate) struct Memo<K, V> {
    answers: Mutex<BTreeMap<K, (Instant, Arc<V>)>>,
}

impl<K: Ord, V> Memo<K, V> {
    pub(crate) const fn new() -> Self {
        Self { answers: Mutex::new(BTreeMap::new()) }
    }

    /// The answer to a question, by `ask` where it is not known. Errors are not kept.
    ///
    /// # Errors
    /// As `ask`.
    pub(crate) fn get<E>(&self, question: K, ask: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let locked = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = {
            let mut answers = locked();
            answers.retain(|_, (since, _)| since.elapsed() < KEPT);
            answers.get(&question).map(|(_, answer)| Arc::clone(answer))
        };
        if let Some(answer) = known {
            return Ok(answer);
        }
        let (since, answer) = (Instant::now(), Arc::new(ask()?));
        locked().insert(question, (since, Arc::clone(&answer)));
        Ok(answer)
    }
}
