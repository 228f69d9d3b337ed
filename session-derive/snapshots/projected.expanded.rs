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
                name: "__Secure-shop",
                path: "/",
                domain: __databag::Some("example.com"),
                same_site: __databag::SameSite::Lax,
                secure: true,
                partitioned: false,
                persistence: __databag::Persistence::Browser,
            },
            idle: __databag::Duration::from_millis(1800000u64),
            absolute: __databag::Duration::from_millis(43200000u64),
            remember: __databag::Duration::from_millis(2592000000u64),
            max_per_user: __databag::Some(5u32),
            version: 0u32,
            fields: &[
                __databag::Field {
                    role: __databag::Role::User(__databag::user_type::<Self>()),
                    ..__databag::Field::plain("account")
                },
                __databag::Field {
                    role: __databag::Role::Ip(__databag::Bind::Prefix),
                    ..__databag::Field::plain("address")
                },
                __databag::Field {
                    role: __databag::Role::Column {
                        name: "shop",
                        ty: __databag::column_type::<String>(),
                        index: true,
                    },
                    ..__databag::Field::plain("tenant")
                },
            ],
        };
        fn defaults() -> Self {
            Self {
                account: __databag::default_of::<Option<i64>>(),
                address: __databag::default_of::<Option<IpAddr>>(),
                tenant: __databag::default_of::<Option<String>>(),
            }
        }
        fn shapes(__shapes: &mut __databag::Shapes) {
            __shapes.field::<__databag::Bincode, Option<i64>>();
            __shapes.field::<__databag::Bincode, Option<IpAddr>>();
            __shapes.field::<__databag::Bincode, Option<String>>();
        }
        fn encode(
            &self,
            __fields: &mut __databag::Encoder,
        ) -> __databag::Result<(), __databag::CodecError> {
            __fields.field::<__databag::Bincode, Option<i64>>(&self.account)?;
            __fields.field::<__databag::Bincode, Option<IpAddr>>(&self.address)?;
            __fields.field::<__databag::Bincode, Option<String>>(&self.tenant)?;
            __databag::Ok(())
        }
        fn decode(&mut self, __fields: &mut __databag::Decoder<'_>) {
            __fields.field::<__databag::Bincode, Option<i64>>(0usize, &mut self.account);
            __fields
                .field::<__databag::Bincode, Option<IpAddr>>(1usize, &mut self.address);
            __fields
                .field::<__databag::Bincode, Option<String>>(2usize, &mut self.tenant);
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
                            Option<i64>,
                        >(
                            &self.account,
                            __encoded,
                            (&__databag::EqualityProbe::<Option<i64>>::NEW).equality(),
                        )
                }
                1usize => {
                    __comparison
                        .canonical::<
                            __databag::Bincode,
                            Option<IpAddr>,
                        >(
                            &self.address,
                            __encoded,
                            (&__databag::EqualityProbe::<Option<IpAddr>>::NEW).equality(),
                        )
                }
                2usize => {
                    __comparison
                        .canonical::<
                            __databag::Bincode,
                            Option<String>,
                        >(
                            &self.tenant,
                            __encoded,
                            (&__databag::EqualityProbe::<Option<String>>::NEW).equality(),
                        )
                }
                _ => false,
            }
        }
        fn project(&self, __projection: &mut __databag::Projection) {
            __projection.user::<Self>(self.account.as_ref());
            __projection.ip(self.address);
            __databag::column_type::<String>();
            __projection.column::<String>(self.tenant.as_ref());
        }
        fn set_ip(&mut self, __ip: __databag::Option<__databag::IpAddr>) {
            self.address = __ip;
        }
    }
    #[automatically_derived]
    #[allow(deprecated)]
    impl __databag::HasUser for Shop {
        type User = i64;
        type UserRef<'__a> = i64;
        fn user(&self) -> __databag::Option<<Self as __databag::HasUser>::UserRef<'_>> {
            self.account
        }
        fn set_user(&mut self, __user: __databag::Option<i64>) {
            self.account = __user;
        }
    }
    #[automatically_derived]
    #[allow(deprecated)]
    impl __databag::HasIp for Shop {
        fn ip(&self) -> __databag::Option<__databag::IpAddr> {
            self.address
        }
    }
    #[automatically_derived]
    #[allow(dead_code)]
    impl Shop {
        ///Returns `account`.
        #[must_use]
        #[inline]
        fn account(&self) -> __databag::Option<i64> {
            self.account
        }
        ///Borrows `account` mutably.
        #[must_use]
        #[inline]
        fn account_mut(&mut self) -> &mut Option<i64> {
            &mut self.account
        }
        ///Replaces `account`.
        #[inline]
        fn set_account(&mut self, value: impl __databag::IntoValue<i64>) {
            self.account = __databag::Some(__databag::Into::into(value));
        }
        ///Sets `account` to `None`.
        #[inline]
        fn clear_account(&mut self) {
            self.account = __databag::None;
        }
        ///Takes the value out of `account`, and leaves `None`.
        #[inline]
        fn take_account(&mut self) -> __databag::Option<i64> {
            self.account.take()
        }
        ///Returns `address`.
        #[must_use]
        #[inline]
        fn address(&self) -> __databag::Option<IpAddr> {
            self.address
        }
        ///Returns `tenant`.
        #[must_use]
        #[inline]
        fn tenant(&self) -> __databag::Option<&__databag::str> {
            self.tenant.as_deref()
        }
        ///Borrows `tenant` mutably.
        #[must_use]
        #[inline]
        fn tenant_mut(&mut self) -> &mut Option<String> {
            &mut self.tenant
        }
        ///Replaces `tenant`.
        #[inline]
        fn set_tenant(&mut self, value: impl __databag::IntoValue<String>) {
            self.tenant = __databag::Some(__databag::Into::into(value));
        }
        ///Sets `tenant` to `None`.
        #[inline]
        fn clear_tenant(&mut self) {
            self.tenant = __databag::None;
        }
        ///Takes the value out of `tenant`, and leaves `None`.
        #[inline]
        fn take_tenant(&mut self) -> __databag::Option<String> {
            self.tenant.take()
        }
    }
    #[automatically_derived]
    #[allow(dead_code)]
    impl Shop {
        ///The column of `account`, for queries.
        const ACCOUNT: __databag::Column<Self, i64> = __databag::user_column::<Self>();
        ///The column of `address`, for queries.
        const ADDRESS: __databag::Column<Self, IpAddr> = {
            __databag::column_type::<IpAddr>();
            __databag::column::<Self, IpAddr>(__databag::ColumnRef::Ip)
        };
        ///The column of `tenant`, for queries.
        const TENANT: __databag::Column<Self, String> = {
            __databag::column_type::<String>();
            __databag::column::<Self, String>(__databag::ColumnRef::Projected(0usize))
        };
    }
};
