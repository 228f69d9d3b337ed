const _: () = {
    use ::session_runtime::__private as __databag;
    #[automatically_derived]
    #[allow(deprecated)]
    impl __databag::Databag for Shop {
        type Codec = __databag::Bincode;
        const SCHEMA: &'static __databag::Schema = &__databag::Schema {
            name: "session-derive/Shop",
            table: "sessions",
            columns: __databag::Columns {
                id: "id",
                state: "state",
                user_id: "user_id",
                ip_addr: "ip_addr",
                created: "created",
                expiration: "expiration",
                revision: "revision",
            },
            cookie: __databag::CookieSchema {
                name: "__Host-session",
                path: "/",
                domain: __databag::None,
                same_site: __databag::SameSite::Lax,
                secure: true,
                partitioned: false,
                persistence: __databag::Persistence::Browser,
            },
            idle: __databag::Duration::from_millis(1800000u64),
            absolute: __databag::Duration::from_millis(43200000u64),
            remember: __databag::Duration::from_millis(2592000000u64),
            max_per_user: __databag::None,
            version: 0u32,
            fields: &[
                __databag::Field::plain("cart"),
                __databag::Field::plain("theme"),
                __databag::Field::plain("name"),
            ],
        };
        fn defaults() -> Self {
            Self {
                cart: __databag::default_of::<BTreeMap<String, u32>>(),
                theme: Theme::Light,
                name: __databag::default_of::<String>(),
            }
        }
        fn shapes(__shapes: &mut __databag::Shapes) {
            __shapes.field::<__databag::Bincode, BTreeMap<String, u32>>();
            __databag::assert_stored::<Theme>();
            __shapes.field::<__databag::Bincode, Theme>();
            __shapes.field::<__databag::Bincode, String>();
        }
        fn encode(
            &self,
            __fields: &mut __databag::Encoder,
        ) -> __databag::Result<(), __databag::CodecError> {
            __fields.field::<__databag::Bincode, BTreeMap<String, u32>>(&self.cart)?;
            __databag::assert_stored::<Theme>();
            __fields.field::<__databag::Bincode, Theme>(&self.theme)?;
            __fields.field::<__databag::Bincode, String>(&self.name)?;
            __databag::Ok(())
        }
        fn decode(&mut self, __fields: &mut __databag::Decoder<'_>) {
            __fields
                .field::<
                    __databag::Bincode,
                    BTreeMap<String, u32>,
                >(0usize, &mut self.cart);
            __databag::assert_stored::<Theme>();
            __fields.field::<__databag::Bincode, Theme>(1usize, &mut self.theme);
            __fields.field::<__databag::Bincode, String>(2usize, &mut self.name);
        }
        fn compare(
            &self,
            __field: __databag::usize,
            __encoded: &[__databag::u8],
            __comparison: __databag::Comparison,
        ) -> __databag::bool {
            #[allow(unused_imports)]
            use __databag::{ByEncoding as _, ByValue as _};
            match __field {
                0usize => {
                    __comparison
                        .canonical::<
                            __databag::Bincode,
                            BTreeMap<String, u32>,
                        >(
                            &self.cart,
                            __encoded,
                            (&__databag::EqualityProbe::<BTreeMap<String, u32>>::NEW)
                                .equality(),
                        )
                }
                1usize => {
                    __databag::assert_stored::<Theme>();
                    __comparison
                        .field::<
                            __databag::Bincode,
                            Theme,
                        >(
                            &self.theme,
                            __encoded,
                            (&__databag::EqualityProbe::<Theme>::NEW).equality(),
                        )
                }
                2usize => {
                    __comparison
                        .canonical::<
                            __databag::Bincode,
                            String,
                        >(
                            &self.name,
                            __encoded,
                            (&__databag::EqualityProbe::<String>::NEW).equality(),
                        )
                }
                _ => false,
            }
        }
        fn merge(
            __field: __databag::usize,
            __versions: __databag::FieldVersions<'_>,
        ) -> __databag::Result<__databag::MergeOutcome, __databag::CodecError> {
            #[allow(unused_imports)]
            use __databag::{
                ByEncoding as _, ByValue as _, EntriesByDefault as _, LastByDefault as _,
            };
            match __field {
                0usize => {
                    (&__databag::DefaultMergeProbe::<BTreeMap<String, u32>>::NEW)
                        .merge::<
                            __databag::Bincode,
                        >(
                            __versions,
                            (&__databag::EqualityProbe::<BTreeMap<String, u32>>::NEW)
                                .equality(),
                        )
                }
                1usize => {
                    (&__databag::DefaultMergeProbe::<Theme>::NEW)
                        .merge::<
                            __databag::Bincode,
                        >(
                            __versions,
                            (&__databag::EqualityProbe::<Theme>::NEW).equality(),
                        )
                }
                _ => __databag::Ok(__databag::MergeOutcome::Ours),
            }
        }
    }
    #[automatically_derived]
    #[allow(dead_code)]
    impl Shop {
        /// What is to be bought.
        #[must_use]
        #[inline]
        pub fn cart(&self) -> &BTreeMap<String, u32> {
            &self.cart
        }
        ///Borrows `cart` mutably.
        ///
        /// What is to be bought.
        #[must_use]
        #[inline]
        pub fn cart_mut(&mut self) -> &mut BTreeMap<String, u32> {
            &mut self.cart
        }
        ///Replaces `cart`.
        ///
        /// What is to be bought.
        #[inline]
        pub fn set_cart(&mut self, value: impl __databag::Into<BTreeMap<String, u32>>) {
            self.cart = __databag::Into::into(value);
        }
        ///Returns `theme`.
        #[must_use]
        #[inline]
        pub fn theme(&self) -> &Theme {
            &self.theme
        }
        ///Borrows `theme` mutably.
        #[must_use]
        #[inline]
        pub fn theme_mut(&mut self) -> &mut Theme {
            &mut self.theme
        }
        ///Replaces `theme`.
        #[inline]
        pub fn set_theme(&mut self, value: impl __databag::Into<Theme>) {
            self.theme = __databag::Into::into(value);
        }
        ///Returns `name`.
        #[must_use]
        #[inline]
        pub fn name(&self) -> &__databag::str {
            &self.name
        }
        ///Borrows `name` mutably.
        #[must_use]
        #[inline]
        pub fn name_mut(&mut self) -> &mut String {
            &mut self.name
        }
        ///Replaces `name`.
        #[inline]
        pub fn set_name(&mut self, value: impl __databag::Into<String>) {
            self.name = __databag::Into::into(value);
        }
    }
};
