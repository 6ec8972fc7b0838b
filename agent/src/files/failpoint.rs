//! Places at which a test can cut a writer short: a panic is a crash (nothing is cleaned up), an error is the kernel's no.
//! Outside of tests there is nothing here.

#[cfg(not(test))]
#[inline(always)]
pub(super) fn hit(_step: &'static str) -> rustix::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use armed::*;

#[cfg(test)]
mod armed {
    use std::cell::RefCell;

    type Action = Box<dyn FnMut(&'static str) -> rustix::io::Result<()>>;

    thread_local! {
        static ACTION: RefCell<Option<Action>> = const { RefCell::new(None) };
    }

    pub(in crate::files) fn hit(step: &'static str) -> rustix::io::Result<()> {
        // Taken out while it runs: the action may panic, which is what a crash looks like here.
        let Some(mut action) = ACTION.with_borrow_mut(Option::take) else { return Ok(()) };
        let result = action(step);
        ACTION.with_borrow_mut(|slot| *slot = Some(action));
        result
    }

    pub(in crate::files) fn with<T>(
        action: impl FnMut(&'static str) -> rustix::io::Result<()> + 'static,
        body: impl FnOnce() -> T,
    ) -> std::thread::Result<T> {
        ACTION.with_borrow_mut(|slot| *slot = Some(Box::new(action)));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        ACTION.with_borrow_mut(|slot| *slot = None);
        result
    }
}
