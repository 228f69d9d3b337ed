//! The chapters of the guide, as text: `docs/guide` of the repository, which this package has as `guide`.
//!
//! They exist for rustdoc alone. A link of a chapter is written `[text][name]`, and its target stands at the end of the file, for
//! readers of the file. In the documentation the targets of [`chapter!`] stand before it, and the first target of a name counts.

/// Makes the documentation of a chapter: its file, after the targets of its links in the documentation.
macro_rules! chapter {
    ($file:literal) => {
        concat!(
            "[start]: crate::guide::start\n",
            "[fields]: crate::guide::fields\n",
            "[saving]: crate::guide::saving\n",
            "[queries]: crate::guide::queries\n",
            "[testing]: crate::guide::testing\n",
            "[passwords]: crate::guide::passwords\n",
            "[oauth]: crate::guide::oauth\n",
            "[passkeys]: crate::guide::passkeys\n",
            "[remember]: crate::guide::remember\n",
            "[forms]: crate::guide::forms\n",
            "[csrf]: crate::guide::csrf\n",
            "[bags]: crate::guide::bags\n",
            "[apis]: crate::guide::apis\n",
            "[live]: crate::guide::live\n",
            "[middleware]: crate::guide::middleware\n",
            "[actix-session]: crate::guide::actix_session\n",
            "[deployments]: crate::guide::deployments\n",
            "[stores]: crate::guide::stores\n",
            "[keys]: crate::guide::keys\n",
            "[production]: crate::guide::production\n",
            "[operators]: crate::guide::operators\n",
            "[stored]: crate::guide::stored\n",
            "[failures]: crate::guide::failures\n",
            "[troubleshooting]: crate::guide::troubleshooting\n",
            // Files that are not in the package.
            "[readme]: crate\n",
            "[security]: crate::guide::stored\n",
            "[observability]: crate::event\n",
            "[cli]: crate::guide::operators\n",
            "[attributes]: derive@crate::Databag\n",
            "[accounts]: crate::guide::passwords\n",
            "[bridge]: crate::guide::actix_session\n",
            "[custom_store]: crate::store::Store\n",
            "[live.rs]: crate::Sessions::watch\n",
            "[testing.rs]: crate::testing\n",
            "\n",
            include_str!(concat!("../guide/", $file))
        )
    };
}

#[doc = chapter!("README.md")]
pub mod guide {
    #[doc = chapter!("start.md")]
    pub mod start {}
    #[doc = chapter!("fields.md")]
    pub mod fields {}
    #[doc = chapter!("saving.md")]
    pub mod saving {}
    #[doc = chapter!("queries.md")]
    pub mod queries {}
    #[doc = chapter!("testing.md")]
    pub mod testing {}
    #[doc = chapter!("passwords.md")]
    pub mod passwords {}
    #[doc = chapter!("oauth.md")]
    pub mod oauth {}
    #[doc = chapter!("passkeys.md")]
    pub mod passkeys {}
    #[doc = chapter!("remember.md")]
    pub mod remember {}
    #[doc = chapter!("forms.md")]
    pub mod forms {}
    #[doc = chapter!("csrf.md")]
    pub mod csrf {}
    #[doc = chapter!("bags.md")]
    pub mod bags {}
    #[doc = chapter!("apis.md")]
    pub mod apis {}
    #[doc = chapter!("live.md")]
    pub mod live {}
    #[doc = chapter!("middleware.md")]
    pub mod middleware {}
    #[doc = chapter!("actix-session.md")]
    pub mod actix_session {}
    #[doc = chapter!("deployments.md")]
    pub mod deployments {}
    #[doc = chapter!("stores.md")]
    pub mod stores {}
    #[doc = chapter!("keys.md")]
    pub mod keys {}
    #[doc = chapter!("production.md")]
    pub mod production {}
    #[doc = chapter!("operators.md")]
    pub mod operators {}
    #[doc = chapter!("stored.md")]
    pub mod stored {}
    #[doc = chapter!("failures.md")]
    pub mod failures {}
    #[doc = chapter!("troubleshooting.md")]
    pub mod troubleshooting {}
}
