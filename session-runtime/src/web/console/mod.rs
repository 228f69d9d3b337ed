//! A console for the operators of an application: requests enter, pages about the sessions of one bag leave.
//!
//! It knows the bag by its schema alone. It stands inside the middleware of the bag that its viewers have, and lets nobody in
//! who does not meet the condition that it is made with.

mod chart;
mod filter;
mod history;
mod html;
mod pages;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use actix_web::dev::{AppService, HttpServiceFactory};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, Data, Form, Query};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _};

use self::filter::{Facet, Parameter, Search, Shown, facets, parameter};
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

/// How many sessions are read to group them. Ids are random, so the first ones are a sample of all.
const MOST_GROUPED: u64 = 10_000;
/// How many of them are read at a time.
const GROUPED_AT_A_TIME: u32 = 500;

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
/// It shows no value of the record, and none of a `blind` column, which can be searched by a whole value. Ended sessions are logged
/// at the level info, with the id of the viewer's session. What is searched for is in the address of the page, so a log of requests
/// has it.
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
}

impl<V: Databag, T: Databag> Console<V, T> {
    /// Makes a console at this path for the viewers whose session meets the condition. There is none without a condition.
    ///
    /// The history is that of the sessions, filled by its [`observer`](History::observer).
    pub fn new(
        path: impl Into<String>,
        sessions: &Sessions<T>,
        history: &History,
        may_enter: impl Fn(&V) -> bool + 'static,
    ) -> Self {
        let (sessions, history) = (sessions.clone(), history.clone());
        let site = Site { sessions, history, facets: facets(T::SCHEMA) };
        Self { path: path.into(), guard: require(may_enter), site }
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

/// Leads to the first page. The links between pages need them to be in one folder.
async fn enter(request: HttpRequest) -> HttpResponse {
    let overview = format!("{}/overview", request.path().trim_end_matches('/'));
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
    answer::<T>(site.confirm(&parameters, &viewer.csrf_token()).await)
}

async fn revoke<V: Databag, T: Databag>(
    site: Data<Site<T>>,
    form: Form<Vec<Parameter>>,
    viewer: SessionRef<V>,
) -> HttpResponse {
    match site.revoke(&form).await {
        Ok(Some(ended)) => {
            tracing::info!(bag = T::SCHEMA.name, viewer = ?viewer.id(), ended, "sessions were ended in the console");
            HttpResponse::SeeOther()
                .insert_header((LOCATION, format!("list?ended={ended}")))
                .insert_header((CACHE_CONTROL, "no-store"))
                .finish()
        }
        Ok(None) => {
            let text = "It is not clear which sessions to end. Nothing was changed.";
            page(StatusCode::BAD_REQUEST, pages::message(T::SCHEMA.name, "Not understood", text))
        }
        Err(error) => failed::<T>(&error),
    }
}

impl<T: Databag> Site<T> {
    const BAG: &'static str = T::SCHEMA.name;

    async fn overview(&self, parameters: &[Parameter]) -> Result<(StatusCode, String), Error> {
        // It notes the number in the history, too.
        let live = self.sessions.count_all().await?;
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
            let mut found = self.sessions.after(search.filter.clone(), prefix.after, PAGE).await?;
            found.retain(|session| prefix.matches(session.id()));
            (found, None)
        } else {
            let total = self.sessions.count(search.filter.clone()).await?;
            let last = u32::try_from(total.saturating_sub(1) / u64::from(PAGE)).unwrap_or(PAGES);
            number = number.min(last);
            // The store knows no place in this order, so the pages before are read again.
            let newest = self.sessions.newest("console", search.filter.clone(), (number + 1) * PAGE).await?;
            (newest.into_iter().skip((number * PAGE) as usize).collect(), Some(total))
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
            ended: number_of(parameters, "ended"),
            now: self.now(),
        };
        let status = if search.mistakes.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        Ok((status, list.page()))
    }

    /// Groups the rows as the store has them: none of them is opened.
    async fn groups(&self, parameters: &[Parameter]) -> Result<(StatusCode, String), Error> {
        let mut facets = self.facets.iter().filter(|facet| !facet.is_blind);
        let wanted = parameter(parameters, "by");
        let named = facets.clone().find(|facet| Some(facet.key.as_str()) == wanted);
        let by = named.or_else(|| facets.next());
        let (mut groups, mut read, mut is_sample) = (HashMap::<Shown, u64>::new(), 0, false);
        if let Some(by) = by {
            let mut after = None;
            loop {
                let page = Page::new(after, GROUPED_AT_A_TIME);
                let rows = self.sessions.rows(self.sessions.live(Filter::All), page).await?;
                let Some(last) = rows.last() else { break };
                after = Some(last.id);
                if read >= MOST_GROUPED {
                    is_sample = true;
                    break;
                }
                for row in rows.iter().filter(|row| row.damaged.is_none()) {
                    read += 1;
                    *groups.entry(by.of_row(row)).or_default() += 1;
                }
            }
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_unstable_by(|(one, of_one), (other, of_other)| {
            of_other.cmp(of_one).then_with(|| one.cmp(other))
        });
        let groups = Groups { bag: Self::BAG, facets: &self.facets, by, found: &groups, read, is_sample };
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
            let text = "There is no live session of this id: it has ended, or expired, or continues under another id.";
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
        csrf_token: &str,
    ) -> Result<(StatusCode, String), Error> {
        let search = Search::of(parameters, &self.facets);
        if !search.is_exact() {
            let text = "Sessions are ended by whole values, and by a whole id.";
            return Ok((StatusCode::BAD_REQUEST, pages::message(Self::BAG, "Not understood", text)));
        }
        let total = self.sessions.count(search.filter.clone()).await?;
        let confirmation =
            Confirmation { bag: Self::BAG, facets: &self.facets, search: &search, total, csrf_token };
        Ok((StatusCode::OK, confirmation.page()))
    }

    /// Ends what a form names, and returns how many sessions; `None` if it names nothing exactly.
    async fn revoke(&self, form: &[Parameter]) -> Result<Option<u64>, Error> {
        let search = Search::of(form, &self.facets);
        let is_all = parameter(form, "all") == Some("yes");
        // A form without a term must not end everything by mistake.
        if !search.is_exact() || search.terms.is_empty() != is_all {
            return Ok(None);
        }
        if let Some(id) = search.only_id() {
            // A deletion that fails is tried again.
            return self.sessions.delete(id).await.map(|was_there| Some(was_there.into()));
        }
        self.sessions.remove(self.sessions.live(search.filter)).await.map(Some)
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
        Err(error) => failed::<T>(&error),
    }
}

/// Says that the sessions cannot be shown; the log says why.
fn failed<T: Databag>(error: &Error) -> HttpResponse {
    let (bag, status) = (T::SCHEMA.name, error.status_code());
    tracing::warn!(bag, error = %ErrorChain(error), "the console could not be served");
    let (title, text) = if status == StatusCode::SERVICE_UNAVAILABLE {
        (
            "The store does not answer",
            "Nothing is known of the sessions now; try again in a moment. The log has the cause.",
        )
    } else {
        ("That failed", "The log has the cause.")
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
