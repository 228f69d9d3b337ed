//! Sessions of which something is known: that a user is logged in, and since when.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::session::Session;
use crate::bag::{Databag, HasUser};

/// A [`Session`] whose user is logged in. Without a user the handler does not run, and the answer is
/// [`NotLoggedIn`](crate::NotLoggedIn): 401, or a redirect for a browser that asks for a page.
///
/// # Examples
///
/// ```
/// use session_runtime::{Databag, LoggedIn};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id)]
///     user_id: Option<i64>,
/// }
///
/// async fn account(session: LoggedIn<Shop>) -> String {
///     format!("user {}", session.user())
/// }
/// # let _ = account;
/// ```
pub struct LoggedIn<T: Databag> {
    session: Session<T>,
}

// The bound is on the methods: on the type, rustc would repeat its message for each part of a handler that names it.
impl<T: Databag> LoggedIn<T> {
    /// Wraps the session of a user who is logged in; `None` without a user.
    pub fn new(session: Session<T>) -> Option<Self>
    where
        T: HasUser,
    {
        let is_logged_in = session.held.active.bag.user().is_some();
        is_logged_in.then_some(Self { session })
    }

    /// Returns the user.
    ///
    /// # Panics
    ///
    /// If the handler has cleared the user through [`DerefMut`] before. After [`log_out`](Self::log_out) there is no
    /// `LoggedIn` any more.
    pub fn user(&self) -> T::UserRef<'_>
    where
        T: HasUser,
    {
        self.session.held.active.bag.user().expect("the handler has not cleared the user")
    }

    /// Logs the user out, as [`Session::log_out`] does, and returns the session without a user.
    pub fn log_out(self) -> Session<T>
    where
        T: HasUser,
    {
        let mut session = self.session;
        session.log_out();
        session
    }
}

impl<T: Databag> Deref for LoggedIn<T> {
    type Target = Session<T>;

    fn deref(&self) -> &Session<T> {
        &self.session
    }
}

impl<T: Databag> DerefMut for LoggedIn<T> {
    fn deref_mut(&mut self) -> &mut Session<T> {
        &mut self.session
    }
}

impl<T: Databag> fmt::Debug for LoggedIn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.fmt(f)
    }
}

/// A session whose user has logged in at most `SECONDS` seconds ago, or was [`reauthenticated`](Session::reauthenticated) since:
/// for a change of the password, of the address, or of money (ASVS 5.0 §7.5.1). Otherwise the handler does not run, and the
/// answer is [`NotFresh`](crate::NotFresh): 403 with a hint, or a redirect for a browser that asks for a page.
///
/// # Examples
///
/// ```
/// use session_runtime::{Databag, Fresh, LoggedIn};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id)]
///     user_id: Option<i64>,
/// }
///
/// async fn delete_account(session: Fresh<Shop, 300>) -> String {
///     format!("user {} is gone", session.user())
/// }
///
/// /// Called when the user has typed the password once more.
/// async fn confirm(mut session: LoggedIn<Shop>) -> &'static str {
///     session.reauthenticated();
///     "confirmed"
/// }
/// # let _ = (delete_account, confirm);
/// ```
pub struct Fresh<T: Databag, const SECONDS: u64> {
    session: LoggedIn<T>,
}

impl<T: Databag, const SECONDS: u64> Fresh<T, SECONDS> {
    /// Wraps a session, if its user was authenticated so lately.
    pub fn new(session: LoggedIn<T>) -> Option<Self>
    where
        T: HasUser,
    {
        const { assert!(SECONDS > 0, "no log-in is fresh for 0 seconds") };
        let is_fresh = session.authenticated_for().is_some_and(|age| age <= Duration::from_secs(SECONDS));
        is_fresh.then_some(Self { session })
    }

    /// Logs the user out, as [`Session::log_out`] does, and returns the session without a user.
    pub fn log_out(self) -> Session<T>
    where
        T: HasUser,
    {
        self.session.log_out()
    }
}

impl<T: Databag, const SECONDS: u64> Deref for Fresh<T, SECONDS> {
    type Target = LoggedIn<T>;

    fn deref(&self) -> &LoggedIn<T> {
        &self.session
    }
}

impl<T: Databag, const SECONDS: u64> DerefMut for Fresh<T, SECONDS> {
    fn deref_mut(&mut self) -> &mut LoggedIn<T> {
        &mut self.session
    }
}

impl<T: Databag, const SECONDS: u64> fmt::Debug for Fresh<T, SECONDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.fmt(f)
    }
}
