//! The macros that make a component out of a plugin: they hold the configured instance and forward every export to it.
//! On any target but wasm they only check that the type has the role, so that plugins link into native tests.
//! (rustfmt indents calls inside these macros differently each time that it runs, so it skips them.)

/// Exports a type that is an [`Editor`](crate::Editor).
#[rustfmt::skip]
#[macro_export]
macro_rules! export_editor {
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "exports of a component are extern functions")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: $crate::Instance<$plugin> = const { $crate::Instance::new() };
            }
            struct Component;
            impl $crate::bindings::editor::exports::bucksaw::plugin::editor::Guest for Component {
                fn describe() -> $crate::Description {
                    <$plugin as $crate::Plugin>::description()
                }
                fn configure(
                    config: ::std::string::String,
                ) -> ::core::result::Result<$crate::Setup, ::std::vec::Vec<$crate::Diagnostic>>
                {
                    INSTANCE.with(|it| it.configure(&config))
                }
                fn edit_batch(batch: $crate::Batch) -> $crate::Answer {
                    INSTANCE
                        .with(|it| it.with(|plugin| $crate::editor::edit_batch(plugin, &batch)))
                        .unwrap_or_else(|| $crate::editor::unconfigured(&batch))
                }
            }
            $crate::bindings::editor::export!(Component with_types_in $crate::bindings::editor);
        };
        const _: fn() = $crate::editor::check::<$plugin>;
    };
}

/// Exports a type that is a [`Formatter`](crate::Formatter).
#[rustfmt::skip]
#[macro_export]
macro_rules! export_formatter {
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "exports of a component are extern functions")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: $crate::Instance<$plugin> = const { $crate::Instance::new() };
            }
            struct Component;
            impl $crate::bindings::formatter::exports::bucksaw::plugin::formatter::Guest
                for Component
            {
                fn describe() -> $crate::Description {
                    <$plugin as $crate::Plugin>::description()
                }
                fn configure(
                    config: ::std::string::String,
                ) -> ::core::result::Result<$crate::Setup, ::std::vec::Vec<$crate::Diagnostic>>
                {
                    INSTANCE.with(|it| it.configure(&config))
                }
                fn format_batch(batch: $crate::Batch) -> $crate::Formatted {
                    INSTANCE
                        .with(|it| {
                            it.with(|plugin| $crate::formatter::format_batch(plugin, &batch))
                        })
                        .unwrap_or_else(|| $crate::formatter::unconfigured(&batch))
                }
            }
            $crate::bindings::formatter::export!(
                Component with_types_in $crate::bindings::formatter
            );
        };
        const _: fn() = $crate::formatter::check::<$plugin>;
    };
}

/// Exports a type that is a [`Handler`](crate::Handler).
#[rustfmt::skip]
#[macro_export]
macro_rules! export_handler {
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "exports of a component are extern functions")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: $crate::Instance<$plugin> = const { $crate::Instance::new() };
            }
            struct Component;
            impl $crate::bindings::handler::exports::bucksaw::plugin::handler::Guest for Component {
                fn describe() -> $crate::Description {
                    <$plugin as $crate::Plugin>::description()
                }
                fn configure(
                    config: ::std::string::String,
                ) -> ::core::result::Result<$crate::Setup, ::std::vec::Vec<$crate::Diagnostic>>
                {
                    INSTANCE.with(|it| it.configure(&config))
                }
                fn handle_batch(batch: $crate::Batch) -> ::core::result::Result<(), u32> {
                    INSTANCE
                        .with(|it| {
                            it.with(|plugin| {
                                $crate::handler::handle_batch(
                                    plugin,
                                    &batch,
                                    &mut $crate::handler::HostAlerts,
                                )
                            })
                        })
                        .unwrap_or(Err($crate::plugin::UNCONFIGURED))
                }
            }
            $crate::bindings::handler::export!(Component with_types_in $crate::bindings::handler);
        };
        const _: fn() = $crate::handler::check::<$plugin>;
    };
}
