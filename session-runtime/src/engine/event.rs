//! What happens to sessions, as observers are told of it. No event has a token, a key or a value of a session.

use std::time::Duration;

use crate::error::{Error, Rejection};
use crate::token::SessionId;

/// Something that has happened to the sessions of one bag: what [`Builder::on_event`](crate::Builder::on_event) is told.
///
/// An event is told when it has happened: that of a write when the store has acknowledged it. It names a session by its id,
/// which opens nothing. Each process tells of what it does itself; what others do, and what a database removes by itself, it
/// does not know.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use session_runtime::{Databag, Event, Keyring, Sessions, SqliteStore};
///
/// #[derive(Databag)]
/// struct Shop {
///     visits: u32,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let created = Arc::new(AtomicU64::new(0));
/// let counter = created.clone();
/// let sessions = Sessions::<Shop>::builder(SqliteStore::in_memory()?)
///     .keyring(Keyring::generate())
///     .on_event(move |event| {
///         if let Event::Created { .. } = event {
///             counter.fetch_add(1, Ordering::Relaxed);
///         }
///     })
///     .build()
///     .await?;
/// sessions.create(Shop { visits: 1 }).await?;
/// assert_eq!(created.load(Ordering::Relaxed), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A request has loaded its session.
    Loaded {
        /// The session.
        session: SessionId,
    },
    /// A session was stored for the first time. [`Written`](Self::Written) comes with it.
    Created {
        /// The session.
        session: SessionId,
    },
    /// What a session holds was stored: a new session, a change of a handler, or the same under another id.
    Written {
        /// The session, under the id that it has now.
        session: SessionId,
        /// The size of its record in bytes, as `max_state_bytes` limits it: without what sealing adds.
        bytes: usize,
    },
    /// The idle expiry of a session was extended, or its row was written again without a change of a handler.
    Touched {
        /// The session.
        session: SessionId,
    },
    /// A write found that another request had written the session first. Nothing was stored; the write is tried again on top.
    /// Writes of one process queue, so that most of them do not get so far.
    Conflicted {
        /// The session.
        session: SessionId,
    },
    /// What a request has changed was merged with what another one has changed and stored. An `update` that runs its closure
    /// again merges nothing.
    Merged {
        /// The session.
        session: SessionId,
    },
    /// A session continues under another id. [`Written`](Self::Written) comes with it.
    Rotated {
        /// The id that opens nothing any more.
        from: SessionId,
        /// The id that the session has now.
        to: SessionId,
    },
    /// A session was ended before its time. If the answer of the store is lost this may be missing: the sessions that a
    /// log-in ends because of `max_per_user` are then not known, and a deletion that is retried in the background is not
    /// told.
    Ended {
        /// The session.
        session: SessionId,
        /// Why it was ended.
        cause: EndCause,
    },
    /// A request has come with a session that has passed its idle or absolute limit. It goes on without a session, and may come
    /// again with the same one.
    Expired {
        /// The session.
        session: SessionId,
    },
    /// The token of a request is not accepted. The request goes on without a session.
    Rejected {
        /// The session that it claims to open; `None` if it is not even a token.
        session: Option<SessionId>,
        /// Why it is not accepted. Never [`Rejection::Expired`]: see [`Expired`](Self::Expired).
        reason: Rejection,
    },
    /// A request could not load or store its session. There is one error in the log for each.
    Failed {
        /// The session, as far as it is known.
        session: Option<SessionId>,
        /// What the request wanted.
        stage: Stage,
        /// Why it failed.
        failure: Failure,
    },
    /// A call of the store has ended. It is not told of sessions in cookies, which have no store.
    StoreCall {
        /// The name of the store's type, without its path: `SqliteStore`.
        store: &'static str,
        /// The call.
        operation: StoreOperation,
        /// How it has ended.
        outcome: CallOutcome,
        /// How long it took.
        duration: Duration,
    },
    /// A batch of expired rows was removed. A clean-up ends with a batch of none.
    CleanedUp {
        /// How many rows it had.
        removed: u64,
    },
    /// The live sessions were counted: by [`Sessions::count_all`](crate::Sessions::count_all), or after a clean-up in the
    /// background.
    Counted {
        /// How many there are, of all processes.
        live: u64,
    },
}

/// The reasons of [`Event::Rejected`]: all but the expiry, which is an event of its own.
#[cfg(any(feature = "metrics", all(feature = "console", test)))]
pub(crate) const REJECTED: [Rejection; 9] = [
    Rejection::Malformed,
    Rejection::Duplicate,
    Rejection::Unknown,
    Rejection::Tampered,
    Rejection::TooLarge,
    Rejection::Undecodable { field: None },
    Rejection::Address,
    Rejection::UserAgent,
    Rejection::UnknownKey,
];

/// Makes an enum whose variants have stable names, for labels of metrics and for logs.
macro_rules! named {
    ($(#[$meta:meta])* $enum:ident { $($(#[$of_variant:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $enum {
            $($(#[$of_variant])* $variant,)+
        }

        impl $enum {
            /// Each of them once.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns its name, which does not change: a word in lower case.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

named! {
    /// Why a session was ended.
    EndCause {
        /// Its user has logged out ([`Session::log_out`](crate::Session::log_out)).
        LoggedOut = "logged_out",
        /// Its handler has ended it ([`Session::destroy`](crate::Session::destroy)).
        Destroyed = "destroyed",
        /// The application, or another session of the user, has ended it: [`Sessions::delete`](crate::Sessions::delete),
        /// `revoke_user`, a query's `delete`, `clear`, and
        /// [`Session::rotate_and_end_others`](crate::Session::rotate_and_end_others).
        Revoked = "revoked",
        /// The user has logged in elsewhere, and may have no more sessions (`max_per_user`).
        Replaced = "replaced",
    }
}

named! {
    /// What a request wanted of its session when it failed.
    Stage {
        /// To read it.
        Load = "load",
        /// [`Session::reload`](crate::Session::reload).
        Reload = "reload",
        /// To store what has changed, at its end or by [`Session::save`](crate::Session::save).
        Store = "store",
        /// [`Session::update`](crate::Session::update).
        Update = "update",
    }
}

named! {
    /// The kind of an [`Error`] of a request.
    Failure {
        /// The store is down, or too slow.
        Store = "store",
        /// The store refuses a value for good.
        Refused = "refused",
        /// Other requests kept writing the session.
        Contended = "contended",
        /// It is unknown what became of an earlier write.
        Unconfirmed = "unconfirmed",
        /// The stored session was readable when the request began, and is not any more.
        Unreadable = "unreadable",
        /// A key is missing from the keyring.
        UnknownKey = "unknown_key",
        /// A value cannot be encoded.
        Encode = "encode",
        /// A value would not come back from its encoding as it is.
        NotReadBack = "not_read_back",
        /// The session is larger than `max_state_bytes`.
        TooLarge = "too_large",
        /// Another request has ended the session.
        Ended = "ended",
        /// Another request has changed a field with `merge = "reject"`.
        Conflict = "conflict",
        /// The library was used in a way that cannot work.
        Usage = "usage",
    }
}

named! {
    /// A call of a [`Store`](crate::Store) or a [`Directory`](crate::Directory).
    StoreOperation {
        /// `Store::load` and `Store::load_cached`, which may find a row in this process.
        Load = "load",
        /// `Store::load_versions`: watched sessions.
        LoadVersions = "load_versions",
        /// `Store::insert`
        Insert = "insert",
        /// `Store::update`
        Update = "update",
        /// `Store::delete`
        Delete = "delete",
        /// `Store::prune`
        Prune = "prune",
        /// `Store::write_limited`: log-ins with `max_per_user`.
        WriteLimited = "write_limited",
        /// `Directory::find`
        Find = "find",
        /// `Directory::count`
        Count = "count",
        /// `Directory::remove`
        Remove = "remove",
        /// `Directory::health`
        Health = "health",
    }
}

named! {
    /// How a call of a store has ended.
    CallOutcome {
        /// The store has answered, whatever it has found.
        Answered = "answered",
        /// The store has returned an error.
        Failed = "failed",
        /// The caller has stopped waiting: the deadline has passed, another call was answered first, or the client of a
        /// request that loads has gone.
        Abandoned = "abandoned",
    }
}

impl Failure {
    /// Returns the kind of an error.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::Store(error) if error.is_refused() => Self::Refused,
            Error::Store(_) | Error::NotLoaded => Self::Store,
            Error::Contended => Self::Contended,
            Error::Unconfirmed => Self::Unconfirmed,
            Error::Unreadable(_) => Self::Unreadable,
            Error::UnknownKey { .. } => Self::UnknownKey,
            Error::Encode { .. } => Self::Encode,
            Error::NotReadBack { .. } => Self::NotReadBack,
            Error::TooLarge { .. } => Self::TooLarge,
            Error::Ended => Self::Ended,
            Error::Conflict { .. } => Self::Conflict,
            Error::Config(_) | Error::Key(_) | Error::Csrf(_) | Error::Usage(_) => Self::Usage,
        }
    }
}
