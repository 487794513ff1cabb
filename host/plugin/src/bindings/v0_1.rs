//! Host side of `wit/plugin@0.1`.

mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit/plugin@0.1",
        // One world with every role, so that the roles share one set of types; components export one of them.
        inline: "
            package bucksaw:host;
            world every-role {
                include bucksaw:plugin/editor-plugin@0.1.0;
                include bucksaw:plugin/formatter-plugin@0.1.0;
                include bucksaw:plugin/handler-plugin@0.1.0;
            }
        ",
        world: "bucksaw:host/every-role",
    });
}

pub(crate) use self::generated::{
    bucksaw::plugin::{alerts, state, types},
    exports::bucksaw::plugin::{editor, formatter, handler},
};

/// What a component of each role exports, and what it may import.
pub(crate) const EDITOR: &str = "bucksaw:plugin/editor@0.1.0";
pub(crate) const FORMATTER: &str = "bucksaw:plugin/formatter@0.1.0";
pub(crate) const HANDLER: &str = "bucksaw:plugin/handler@0.1.0";
pub(crate) const TYPES: &str = "bucksaw:plugin/types@0.1.0";
pub(crate) const ALERTS: &str = "bucksaw:plugin/alerts@0.1.0";
pub(crate) const STATE: &str = "bucksaw:plugin/state@0.1.0";
