//! A console for the operators of an application: requests enter, pages about the sessions of one bag leave.
//!
//! It knows the bag by its schema alone. It stands inside the middleware of the bag that its viewers have, and lets nobody in
//! who does not meet the condition that it is made with.

mod chart;
mod filter;
mod groups;
mod history;
mod html;
mod pages;

use std::fmt;
use std::slice;
use std::str::FromStr;
use std::time::SystemTime;

use actix_web::dev::{AppService, HttpServiceFactory};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, Data, Query};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _};

use self::filter::{Facet, Parameter, Search, facets, parameter, shown_facets};
use self::groups::group;
pub use self::history::History;
use self::pages::{Confirmation, Details, Entry, Groups, List, Overview, PAGE, PAGES, Range};
use super::csrf::Csrf;
use super::require::{Require, require};
use crate::bag::encoding::Fields;
use crate::bag::{Databag, Projection};
use crate::clock::Timestamp;
use crate::codec;
use crate::error::{Error, ErrorChain};
use crate::request::{Session, SessionRef};
use crate::sessions::{Sessions, Snapshot};
use crate::store::{Filter, Page};
use crate::token::SessionId;

/// Only the console's own style sheet and forms. No script runs, whatever a page contains.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A console for operators: the live sessions of the bag `T`, with what has happened to them in the last day, a search by user,
/// address and column, and forms that end one session, those of a user, or all that a search finds. It is a scope of an `App`, or of
/// another scope, inside the [`SessionMiddleware`](crate::SessionMiddleware) of the bag `V` of those who look at it: often the
/// same bag.
///
/// # Who may enter
///
/// A session of `V` that meets the condition of [`new`](Self::new), as [`require`] asks for it; any other request is answered
/// [`NotAllowed`](crate::NotAllowed). **Whoever may enter sees who uses the application, from which addresses, and can sign everybody
/// out**: write the condition for that, and do not let a visitor set the field. For more, such as a fresh log-in or an address
/// of the company, wrap the scope around it in a guard of your own.
///
/// Forms are guarded by [`Csrf`], with the tokens of the viewer's session.
///
/// # What it shows
///
/// Ids, times, browsers, and the values of the user, the address and the columns: what the store has in columns, in the clear.
/// It shows no other value of the record, and none of a `blind` column, which can be searched by a whole value. Who ends sessions
/// is logged at the level info: the id of the viewer's session, how many have ended, and by what they were searched. What is searched
/// for is in the address of the page, so a log of requests has it.
///
/// The pages need no script and nothing from other sites. Their `Content-Security-Policy` forbids both.
///
/// # Examples
///
/// ```
/// use actix_web::App;
/// use session_runtime::{Console, Databag, History, SessionMiddleware, Sessions};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id)]
///     user_id: Option<i64>,
///     #[databag(reset_on_login)]
///     is_admin: bool,
/// }
///
/// /// The builder of these sessions has `.on_event(history.observer())`.
/// fn configure(sessions: Sessions<Shop>, history: History) {
///     let app = App::new()
///         .service(Console::new("/admin/sessions", &sessions, &history, |viewer: &Shop| viewer.is_admin))
///         .wrap(SessionMiddleware::new(sessions));
///     # let _ = app;
/// }
/// # let _ = configure;
/// ```
#[must_use = "a console is mounted by `App::service`"]
pub struct Console<V, T> {
    path: String,
    guard: Require<V>,
    site: Site<T>,
}

/// What the pages are about.
struct Site<T> {
    sessions: Sessions<T>,
    history: History,
    facets: Vec<Facet>,
    /// Those whose values may be shown.
    shown: Vec<Facet>,
}

impl<V: Databag, T: Databag> Console<V, T> {
    /// Makes a console at this path, such as `/admin/sessions`, for the viewers whose session meets the condition. There is none
    /// without a condition.
    ///
    /// The history is that of the sessions, filled by its [`observer`](History::observer).
    pub fn new(
        path: impl Into<String>,
        sessions: &Sessions<T>,
        history: &History,
        may_enter: impl Fn(&V) -> bool + 'static,
    ) -> Self {
        let (sessions, history) = (sessions.clone(), history.clone());
        let site = Site { sessions, history, facets: facets(T::SCHEMA), shown: shown_facets(T::SCHEMA) };
        let path: String = path.into();
        // Below a path that ends with a slash nothing would be found.
        let path = path.trim_end_matches('/').to_owned();
        Self { path, guard: require(may_enter), site }
    }
}

impl<V, T> fmt::Debug for Console<V, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<V: Databag, T: Databag> HttpServiceFactory for Console<V, T> {
    fn register(self, config: &mut AppService) {
        let scope = web::scope(&self.path)
            .app_data(Data::new(self.site))
            .route("", web::get().to(enter))
            .route("/", web::get().to(enter))
            .route("/style.css", web::get().to(style))
            .route("/overview", web::get().to(overview::<T>))
            .route("/list", web::get().to(list::<T>))
            .route("/groups", web::get().to(groups::<T>))
            .route("/session", web::get().to(details::<V, T>))
            .route("/revoke", web::get().to(confirm::<V, T>))
            .route("/revoke", web::post().to(revoke::<V, T>))
            .wrap(Csrf::<V>::guard())
            .wrap(self.guard); // around the other one: it says no first
        scope.register(config);
    }
}

type Parameters = Query<Vec<Parameter>>;

/// Leads to the first page. The links between pages need them to be in one folder, wherever a proxy shows it.
async fn enter(request: HttpRequest) -> HttpResponse {
    let (_, last) = request.uri().path().rsplit_once('/').unwrap_or_default();
    let overview = if last.is_empty() { "./overview".to_owned() } else { format!("./{last}/overview") };
    HttpResponse::SeeOther()
        .insert_header((LOCATION, overview))
        .insert_header((CACHE_CONTROL, "no-store"))
        .finish()
}

async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/css; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "private, max-age=300"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(include_str!("style.css"))
}

async fn overview<T: Databag>(site: Data<Site<T>>, parameters: Parameters) -> HttpResponse {
    answer::<T>(site.overview(&parameters).await)
}

async fn list<T: Databag>(site: Data<Site<T>>, parameters: Parameters) -> HttpResponse {
    answer::<T>(site.list(&parameters).await)
}

async fn groups<T: Databag>(site: Data<Site<T>>, parameters: Parameters) -> HttpResponse {
    answer::<T>(site.groups(&parameters).await)
}

async fn details<V: Databag, T: Databag>(
    site: Data<Site<T>>,
    parameters: Parameters,
    viewer: Session<V>,
) -> HttpResponse {
    answer::<T>(site.details(&parameters, viewer.id(), &viewer.csrf_token()).await)
}

async fn confirm<V: Databag, T: Databag>(
    site: Data<Site<T>>,
    parameters: Parameters,
    viewer: Session<V>,
) -> HttpResponse {
    answer::<T>(site.confirm(&parameters, viewer.id(), &viewer.csrf_token()).await)
}

/// The address says what is ended: a form would change the ends of lines in a value.
async fn revoke<V: Databag, T: Databag>(
    site: Data<Site<T>>,
    parameters: Parameters,
    viewer: SessionRef<V>,
) -> HttpResponse {
    let bag = T::SCHEMA.name;
    let search = Search::of(&parameters, &site.facets);
    let is_all = parameter(&parameters, "all") == Some("yes");
    // An address without a term must not end everything by mistake.
    if !search.is_exact() || search.terms.is_empty() != is_all {
        let text = "It is not clear which sessions to end. Nothing was changed.";
        return page(StatusCode::BAD_REQUEST, pages::message(bag, "Not understood", text));
    }
    let (viewer, by) = (viewer.id(), search.names());
    match site.revoke(search).await {
        Ok(ended) => {
            tracing::info!(bag, ?viewer, ended, by, "sessions were ended in the console");
            page(StatusCode::OK, pages::ended(bag, ended))
        }
        Err(error) => {
            let cause = ErrorChain(&error);
            tracing::warn!(bag, ?viewer, by, error = %cause, "sessions were perhaps not ended in the console");
            failed::<T>(
                &error,
                "It could not be written: nothing, or not all, was ended. The log has the cause.",
            )
        }
    }
}

impl<T: Databag> Site<T> {
    const BAG: &'static str = T::SCHEMA.name;

    async fn overview(&self, parameters: &[Parameter]) -> Result<(StatusCode, String), Error> {
        // It notes the number in the history, too, which is known without the store.
        let live = match self.sessions.count_all().await {
            Err(error) if matches!(error, Error::Store(_)) => {
                tracing::warn!(bag = Self::BAG, error = %ErrorChain(&error), "could not count the live sessions");
                None
            }
            counted => Some(counted?),
        };
        let range = Range::of(parameters);
        let (minutes, per) = range.minutes();
        // The history has the time of the system, as the log has.
        let intervals = self.history.last(SystemTime::now().into(), minutes, per);
        let is_observing = self.history.is_observing();
        let overview = Overview { bag: Self::BAG, live, range, intervals: &intervals, is_observing };
        Ok((StatusCode::OK, overview.page()))
    }

    async fn list(&self, parameters: &[Parameter]) -> Result<(StatusCode, String), Error> {
        let search = Search::of(parameters, &self.facets);
        let mut number = number_of::<u32>(parameters, "page").unwrap_or(0).min(PAGES - 1);
        let (found, total) = if !search.mistakes.is_empty() {
            (Vec::new(), None)
        } else if let Some(prefix) = &search.prefix {
            let page = Page::new(Some(prefix.after), PAGE);
            let mut rows = self.sessions.rows(self.sessions.live(search.filter.clone()), page).await?;
            rows.retain(|row| prefix.matches(row.id));
            (self.sessions.open_rows(rows)?, None)
        } else {
            let total = self.sessions.count(search.filter.clone()).await?;
            let last = u32::try_from(total.saturating_sub(1) / u64::from(PAGE)).unwrap_or(PAGES);
            number = number.min(last);
            // The store knows no place in this order, so the pages before are read again.
            let page = Page::newest((number + 1) * PAGE);
            let mut rows = self.sessions.rows(self.sessions.live(search.filter.clone()), page).await?;
            let rows = rows.split_off(rows.len().min((number * PAGE) as usize));
            (self.sessions.open_rows(rows)?, Some(total))
        };
        let entries: Vec<_> = found.iter().map(|session| self.entry(session)).collect();
        let list = List {
            bag: Self::BAG,
            facets: &self.facets,
            parameters,
            search: &search,
            entries: &entries,
            total,
            number,
            now: self.now(),
        };
        let status = if search.mistakes.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        Ok((status, list.page()))
    }

    async fn groups(&self, parameters: &[Parameter]) -> Result<(StatusCode, String), Error> {
        let wanted = parameter(parameters, "by");
        let named = self.shown.iter().position(|facet| Some(facet.key.as_str()) == wanted);
        let place = named.unwrap_or_default();
        let found = match self.shown.get(place) {
            Some(by) => {
                let grouped = group(&self.sessions, slice::from_ref(by)).await?.pop().unwrap_or_default();
                let over_time = self.history.groups(Self::BAG, SystemTime::now().into(), place, &grouped);
                Some((by, grouped, over_time))
            }
            None => None,
        };
        let groups = Groups { bag: Self::BAG, facets: &self.shown, found: found.as_ref() };
        Ok((StatusCode::OK, groups.page()))
    }

    async fn details(
        &self,
        parameters: &[Parameter],
        viewer: SessionId,
        csrf_token: &str,
    ) -> Result<(StatusCode, String), Error> {
        let found = match parameter(parameters, "id").map(str::parse::<SessionId>) {
            Some(Ok(id)) => self.sessions.get(id).await?,
            _ => None,
        };
        let Some(session) = found else {
            let text = "There is no live session of this id that can be opened: it has ended, or expired, or continues under \
                        another id, or its row is damaged, which `databag check` says.";
            return Ok((StatusCode::NOT_FOUND, pages::message(Self::BAG, "No such session", text)));
        };
        let details = Details {
            bag: Self::BAG,
            facets: &self.facets,
            fields: T::SCHEMA.fields,
            entry: &self.entry(&session),
            is_own: session.id() == viewer,
            csrf_token,
            now: self.now(),
        };
        Ok((StatusCode::OK, details.page()))
    }

    async fn confirm(
        &self,
        parameters: &[Parameter],
        viewer: SessionId,
        csrf_token: &str,
    ) -> Result<(StatusCode, String), Error> {
        let search = Search::of(parameters, &self.facets);
        if !search.is_exact() {
            let text = "Sessions are ended by whole values, and by a whole id.";
            return Ok((StatusCode::BAD_REQUEST, pages::message(Self::BAG, "Not understood", text)));
        }
        let total = self.sessions.count(search.filter.clone()).await?;
        // Of another bag it is none of these sessions.
        let own = search.filter.clone().and(Filter::Id(viewer));
        let has_own = self.sessions.count(own).await? > 0;
        let confirmation = Confirmation {
            bag: Self::BAG,
            facets: &self.facets,
            search: &search,
            total,
            has_own,
            csrf_token,
        };
        Ok((StatusCode::OK, confirmation.page()))
    }

    /// Ends what is searched for, and returns how many sessions.
    async fn revoke(&self, search: Search) -> Result<u64, Error> {
        match search.only_id() {
            // A deletion that fails is tried again.
            Some(id) => self.sessions.delete(id).await.map(u64::from),
            None => self.sessions.remove(self.sessions.live(search.filter)).await,
        }
    }

    fn entry(&self, session: &Snapshot<T>) -> Entry {
        let mut values = Projection::default();
        session.project(&mut values);
        Entry {
            id: session.id(),
            created: session.created().into(),
            expires: session.expires().into(),
            last_used: session.last_used().into(),
            authenticated: session.authenticated_at().map(Timestamp::from),
            browser: browser::<T>(session),
            values: self.facets.iter().map(|facet| facet.of(&values)).collect(),
        }
    }

    fn now(&self) -> Timestamp {
        self.sessions.engine.now()
    }
}

/// Returns what the browser of a session says it is, if the bag has a field for it. No accessor has the same name in all bags, so
/// the field is read from its encoding: it is always an `Option<String>` in the codec of the bag, and never secret.
fn browser<T: Databag>(bag: &T) -> Option<String> {
    let field = T::SCHEMA.fields.iter().position(|field| field.user_agent && !field.blind)?;
    let fields = Fields::of(bag).ok()?;
    codec::decode::<T::Codec, Option<String>>(fields.get(field)).ok()?
}

fn number_of<N: FromStr>(parameters: &[Parameter], name: &str) -> Option<N> {
    parameter(parameters, name)?.parse().ok()
}

fn answer<T: Databag>(shown: Result<(StatusCode, String), Error>) -> HttpResponse {
    match shown {
        Ok((status, html)) => page(status, html),
        Err(error) => {
            let bag = T::SCHEMA.name;
            tracing::warn!(bag, error = %ErrorChain(&error), "the console could not be served");
            let text = "Nothing is known of the sessions now; try again in a moment. The log has the cause.";
            failed::<T>(&error, text)
        }
    }
}

/// Says that the sessions cannot be shown or ended, and of a store that does not answer what follows.
fn failed<T: Databag>(error: &Error, unavailable: &str) -> HttpResponse {
    let (bag, status) = (T::SCHEMA.name, error.status_code());
    let usage = error.to_string();
    let (title, text) = match error {
        Error::Usage(_) => ("Not with this store", usage.as_str()),
        _ if status == StatusCode::SERVICE_UNAVAILABLE => ("The store does not answer", unavailable),
        _ => ("That failed", "The log has the cause."),
    };
    let mut response = page(status, pages::message(bag, title, text));
    if let Some(seconds) = error.error_response().headers().get(RETRY_AFTER) {
        response.headers_mut().insert(RETRY_AFTER, seconds.clone());
    }
    response
}

fn page(status: StatusCode, html: String) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // With `no-referrer` browsers send forms with `Origin: null`, which `Csrf` refuses where there is no `Sec-Fetch-Site`.
        .insert_header((REFERRER_POLICY, "same-origin"))
        .body(html)
}
