//! Sessions in their visitors' cookies: the sealed session is the token.
//!
//! ```text
//! token   id (32) | 0x01 | created (8) | expiration (8) | revision (8) | state        integers big-endian
//! ```
//!
//! There is no row: what this process remembers of ended sessions stands in for one.

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access::{Backing, InCookie, Opening, sealed};
use super::tombstones::{Tombstone, Tombstones};
use super::{Backend, Custody, Opened, Reloaded, Requirements};
use crate::bag::Projection;
use crate::clock::Timestamp;
use crate::codec::Framing;
use crate::engine::observers::Observers;
use crate::envelope::Place;
use crate::store::{LimitedWrite, Outcome, Row, RowVersions, StoreError, StoreFuture, Table, Update};
use crate::token::{MAX_COOKIE, SessionId, Token};

const VERSION: u8 = 1;
const ID_LEN: usize = size_of::<SessionId>();
const HEADER_LEN: usize = ID_LEN + 1 + 3 * size_of::<i64>();

/// Keeps each session in the cookie of its visitor, sealed; the server keeps nothing.
///
/// Any number of processes that have the same keys share the sessions. The creation time and the expiry of a
/// session are sealed with it, and checked by the server. Name and value of the cookie together may take
/// 4096 bytes, so a session about 2900: a larger one is answered 500, and the log names its biggest field.
/// Proxies have to let headers of that length through (`proxy_buffer_size` of nginx is 4 KiB or 8 KiB).
///
/// # What cannot be had without a row
///
/// - **Revocation.** The sessions of a user cannot be listed, found or ended, nor can one session by its id: such
///   calls do not compile. A log-out removes the cookie from the browser, and the process that handled it refuses
///   the session in other requests, as long as it is among the last 4,096 that have ended or changed their id there. A
///   copy of the cookie works in other processes, and after that many, until it expires. Keep `idle` and `absolute`
///   short, and prefer another store where sessions are worth stealing.
/// - **Missing keys.** A cookie under a key that the keyring does not have is not accepted
///   ([`Rejection::UnknownKey`](crate::Rejection::UnknownKey)): anyone can write the name of a key into one. Keep an old
///   key for as long as its cookies live.
/// - **The latest state.** A client that kept an earlier cookie can send it again until it expires, with what the
///   session held then: count nothing in it that a visitor would like to undo.
/// - **Merging.** Of two requests that change a session at the same time, the browser keeps the cookie that
///   arrives last. Merge policies and `update` have nothing to compare with.
/// - **`max_per_user`** and **`flow`**, which are refused when sessions are built.
///
/// Sealing is required: a client could write anything into a cookie in the clear, so `danger_plaintext` is refused.
/// A client that has the key can sign in as any user.
///
/// # Examples
///
/// ```
/// use session_runtime::{CookieStore, Databag, Keyring, Sessions};
///
/// #[derive(Databag)]
/// struct Shop {
///     visits: u32,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sessions = Sessions::<Shop>::builder(CookieStore)
///     .keyring(Keyring::generate())
///     .build()
///     .await?;
/// let (token, _) = sessions.create(Shop { visits: 1 }).await?;
/// assert_eq!(sessions.load(&token).await?.expect("not expired").visits, 1);
/// # Ok(())
/// # }
/// ```
///
/// A session in a cookie cannot be ended by its id:
///
/// ```compile_fail,E0277
/// # use session_runtime::{Databag, Error, SessionId, Sessions, access::InCookie};
/// # #[derive(Databag)]
/// # struct Shop { visits: u32 }
/// async fn end(sessions: Sessions<Shop, InCookie>, id: SessionId) -> Result<bool, Error> {
///     sessions.delete(id).await
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CookieStore;

impl CookieStore {
    /// Makes the store. There is nothing to connect to.
    pub fn new() -> Self {
        Self
    }
}

#[diagnostic::do_not_recommend]
impl Backing for CookieStore {
    type Access = InCookie;
}

#[allow(private_interfaces, reason = "nothing outside calls it")]
impl sealed::Backing for CookieStore {
    fn open(self, _: Table, bag: &'static str, _: Duration, _: Arc<Observers>) -> Opening {
        let backend = Box::new(SealedCookies { tombstones: Tombstones::default() });
        Box::pin(ready(Ok(Opened { owner: bag.to_owned(), backend, directory: None })))
    }
}

struct SealedCookies {
    tombstones: Tombstones,
}

impl Backend for SealedCookies {
    fn is_token(&self, token: &Token) -> bool {
        token.sealed_session().is_some_and(|sealed| sealed.len() >= HEADER_LEN && sealed[ID_LEN] == VERSION)
    }

    fn load<'a>(&'a self, token: &'a Token, _: Instant) -> StoreFuture<'a, Option<Row>> {
        Box::pin(ready(Ok(token.sealed_session().and_then(unpack))))
    }

    fn reload(&self, _: SessionId, _: Instant) -> StoreFuture<'_, Reloaded> {
        Box::pin(ready(Ok(Reloaded::Unchanged)))
    }

    fn load_versions<'a>(&'a self, _: &'a [SessionId], _: Instant) -> StoreFuture<'a, RowVersions> {
        // No session in a cookie is found by its id.
        Box::pin(ready(Ok(RowVersions::default())))
    }

    fn insert(&self, _: Row, _: Instant) -> StoreFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn replace(&self, update: Update, _: Instant) -> StoreFuture<'_, Outcome> {
        let outcome = if self.is_ended_here(update.id) { Outcome::Gone } else { Outcome::Stored };
        Box::pin(ready(Ok(outcome)))
    }

    fn delete(&self, id: SessionId, _: Instant) -> StoreFuture<'_, bool> {
        Box::pin(ready(Ok(!self.is_ended_here(id))))
    }

    fn prune(&self, _: Timestamp, _: u32, _: Instant) -> StoreFuture<'_, u64> {
        Box::pin(ready(Ok(0)))
    }

    fn write_limited(&self, _: LimitedWrite, _: Instant) -> StoreFuture<'_, (Outcome, Vec<SessionId>)> {
        let cause = "they are in the cookies of their visitors, which cannot be counted";
        Box::pin(ready(Err(StoreError::refused("limit the sessions of a user", None, cause))))
    }

    fn block(&self, id: SessionId) {
        self.tombstones.note(id, Tombstone::Ended);
    }

    fn is_ended_here(&self, id: SessionId) -> bool {
        self.tombstones.of(id).is_some()
    }

    fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    fn token(&self, row: &Row, _: Option<Token>) -> Option<Token> {
        pack(row)
    }

    fn columns(&self, _: &mut Row) -> Option<Projection> {
        None
    }

    fn custody(&self) -> Custody {
        Custody::Client
    }

    fn place(&self, _: Framing, cookie: &str) -> Place {
        Place::Cookie(cookie.into())
    }

    fn max_state_len(&self, cookie: &str) -> usize {
        max_state_len(cookie)
    }

    fn refusal(&self, requirements: Requirements) -> Option<&'static str> {
        match requirements {
            Requirements { plaintext: true, .. } => Some(
                "sessions in cookies have to be sealed, or every visitor could be any user: use `keyring`",
            ),
            Requirements { max_per_user: true, .. } => Some(
                "`max_per_user` needs a store that keeps rows, such as `SqliteStore`: cookies cannot be counted",
            ),
            Requirements { flows: true, .. } => Some(
                "a field with `flow` needs a store that keeps rows, such as `SqliteStore`: a client that kept an earlier \
                 cookie could finish a flow again",
            ),
            _ => None,
        }
    }
}

/// Returns how long the state may be in a cookie of this name, in bytes.
fn max_state_len(name: &str) -> usize {
    // Base64 makes four characters of three bytes.
    (MAX_COOKIE.saturating_sub(name.len()) * 3 / 4).saturating_sub(HEADER_LEN)
}

/// Makes the token that holds a row. The columns are left out: the state has their values as well.
fn pack(row: &Row) -> Option<Token> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + row.state.len());
    bytes.extend_from_slice(row.id.as_bytes());
    bytes.push(VERSION);
    for number in [row.created.as_millis(), row.expiration.as_millis(), row.revision] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&row.state);
    Token::of_sealed_session(bytes)
}

/// Returns the row that a token holds, if it has the form of one.
fn unpack(token: &[u8]) -> Option<Row> {
    let (id, rest) = token.split_first_chunk()?;
    let mut rest = rest.strip_prefix(&[VERSION])?;
    let mut number = || {
        let (bytes, behind) = rest.split_first_chunk()?;
        rest = behind;
        Some(i64::from_be_bytes(*bytes))
    };
    let (created, expiration) = (number()?, number()?);
    let (created, expiration) = (Timestamp::from_millis(created), Timestamp::from_millis(expiration));
    let revision = number()?;
    Some(Row::new(SessionId::from_bytes(*id), rest.to_vec(), created, expiration, revision))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Hex;

    fn row(state: &[u8]) -> Row {
        let (created, expiration) = (Timestamp::from_millis(1), Timestamp::from_millis(2));
        Row::new(SessionId::from_bytes([7; 32]), state.to_vec(), created, expiration, 3)
    }

    #[test]
    fn a_row_survives_its_token() {
        let token = pack(&row(b"state")).expect("long enough");
        assert_eq!(token.session_id(), row(b"").id);
        let parsed = Token::parse(&token.encode()).expect("canonical");
        assert_eq!(unpack(parsed.sealed_session().expect("it holds a row")), Some(row(b"state")));
    }

    #[test]
    fn the_bytes_are_pinned() {
        let token = pack(&row(&[0xAB])).expect("long enough");
        let expected = format!("{}01{:016x}{:016x}{:016x}ab", "07".repeat(32), 1, 2, 3);
        assert_eq!(Hex(token.sealed_session().expect("it holds a row")).to_string(), expected);
    }

    #[test]
    fn a_token_that_is_cut_off_or_of_another_version_is_refused() {
        let token = pack(&row(b"")).expect("long enough");
        let bytes = token.sealed_session().expect("it holds a row");
        assert!((0..bytes.len()).all(|length| unpack(&bytes[..length]).is_none()));
        let mut other = bytes.to_vec();
        other[32] = 2;
        assert_eq!(unpack(&other), None);
    }

    #[test]
    fn a_state_of_the_greatest_length_fits_its_cookie() {
        for name in ["s", "ss", "sss", "__Host-shop"] {
            let length =
                |state: usize| name.len() + pack(&row(&vec![0; state])).expect("long enough").encode().len();
            assert!(length(max_state_len(name)) <= MAX_COOKIE, "{name}");
            assert!(length(max_state_len(name) + 1) > MAX_COOKIE, "{name}");
        }
        assert_eq!(max_state_len(&"n".repeat(5000)), 0);
    }
}
