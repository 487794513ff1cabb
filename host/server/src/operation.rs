//! Which kind of work a request is for.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Chat,
    Completion,
    Embeddings,
}

impl Operation {
    pub(crate) const ALL: [Self; 3] = [Self::Chat, Self::Completion, Self::Embeddings];

    /// Value of `gen_ai.operation.name`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completion => "text_completion",
            Self::Embeddings => "embeddings",
        }
    }
}
