use std::sync::Arc;

use ::image::DynamicImage;

use super::{ChatTemplate, without_generation_tags};
use crate::{
    error::EngineError,
    guard::{Guard, MARK},
    job::{Message, Part},
    tokenizer::TokenNames,
};

const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
/// Content is a list here, images come first, and there are training marks.
const PARTS: &str = "{% for message in messages %}{{ message['role'].upper() + ': ' }}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{%- generation -%}{{ content['text'] + ' ' }}{% endgeneration %}{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

fn names() -> TokenNames {
    TokenNames { bos: Some("<s>".into()), eos: Some("</s>".into()) }
}

fn guard() -> Guard {
    let specials = ["<|im_start|>", "<|im_end|>", "<image>", "<s>", "</s>"].map(str::to_owned);
    Guard::new(specials, ["<think>", "</think>"].map(str::to_owned))
}

fn text(role: &str, text: &str) -> Message {
    Message { role: role.into(), content: vec![Part::Text(text.into())], ..Message::default() }
}

fn render(
    template: &str,
    image: Option<&str>,
    messages: &[Message],
) -> Result<String, EngineError> {
    let template = ChatTemplate::new(template, names(), image.map(str::to_owned)).unwrap();
    template.render(messages, &[], &guard())
}

#[test]
fn messages_are_rendered() {
    let image = || Part::Image(Arc::new(DynamicImage::new_rgb8(1, 1)));
    let seen = Message {
        role: "user".into(),
        content: vec![image(), Part::Text("what".into()), image(), Part::Text("is it".into())],
        ..Message::default()
    };
    for (template, image, messages, expected) in [
        (
            CHATML,
            None,
            vec![text("developer", "be brief"), text("user", "  hi ")],
            "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\n  hi <|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            CHATML,
            Some("<image>"),
            vec![seen.clone()],
            "<|im_start|>user\n<image>\nwhat<image>\nis it<|im_end|>\n<|im_start|>assistant\n",
        ),
        (PARTS, Some("<image>"), vec![seen], "USER: <image>\n<image>\nwhat is it ASSISTANT:"),
        (PARTS, Some("<image>"), vec![text("user", "hi")], "USER: hi ASSISTANT:"),
        (
            "{{ bos_token }}{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content | trim }}{% endfor %}{{ eos_token }}{% if tools %}!{% endif %}",
            None,
            vec![text("user", " a "), text("user", "b")],
            "<s>a</s>",
        ),
    ] {
        assert_eq!(render(template, image, &messages).unwrap(), expected, "{template}");
    }
}

#[test]
fn neighbouring_texts_cannot_make_a_special_token() {
    let parts = ["<|im_", "end|>"].map(|text| Part::Text(text.into()));
    let message = Message { role: "user".into(), content: parts.into(), ..Message::default() };
    let rendered = render(CHATML, None, &[message]).unwrap();
    assert_eq!(rendered.matches("<|im_end|>").count(), 1);
}

#[test]
fn a_conversation_that_does_not_fit_is_refused() {
    let strict = format!(
        "{{% if messages[0].role == 'assistant' %}}{{{{ raise_exception('users come first') }}}}{{% endif %}}{CHATML}"
    );
    for (messages, expected) in [
        ([text("assistant", "hi")], "users come first"),
        (
            [text("root", "hi")],
            "no role \"root\"; known are system, developer, user, assistant, tool",
        ),
    ] {
        let error = render(&strict, None, &messages).unwrap_err();
        assert_eq!(error, EngineError::Template(expected.into()));
        assert!(error.is_client_error());
    }
}

#[test]
fn a_template_that_prints_nothing_is_refused_at_load() {
    for template in [
        "",
        "{{ raise_exception('never') }}",
        "{% if %}",
        "{% for m in messages %}{{ m.role }}{% endfor %}",
    ] {
        assert!(ChatTemplate::new(template, names(), None).is_err(), "{template}");
    }
}

#[test]
fn the_date_can_be_asked_for() {
    let dated = format!("{{{{ strftime_now('%Y') }}}} {CHATML}");
    let rendered = render(&dated, None, &[text("user", "hi")]).unwrap();
    assert!(rendered[..4].chars().all(|c| c.is_ascii_digit()), "{rendered}");
    let bad =
        format!("{{% if messages | length > 1 %}}{{{{ strftime_now('%') }}}}{{% endif %}}{CHATML}");
    let twice = [text("user", "hi"), text("user", "hi")];
    assert!(matches!(render(&bad, None, &twice), Err(EngineError::Template(_))));
}

#[test]
fn training_marks_keep_their_whitespace_control() {
    for (source, expected) in [
        ("a{% generation %}b{% endgeneration %}", "a{% if true %}b{% endif %}"),
        ("a{%- generation -%}b{%- endgeneration -%}c", "a{%- if true -%}b{%- endif -%}c"),
        ("{% if generation %}{% endif %}", "{% if generation %}{% endif %}"),
        ("{% open", "{% open"),
    ] {
        assert_eq!(without_generation_tags(source), expected);
    }
}

/// Templates drop the thoughts of earlier answers: they have to find them.
#[test]
fn only_the_model_and_the_operator_think() {
    let said = "<think>a</think>b<|im_end|>";
    for (role, thinks) in [("user", false), ("tool", false), ("assistant", true), ("system", true)]
    {
        let rendered = render(CHATML, None, &[text(role, said)]).unwrap();
        for control in ["<think>", "</think>"] {
            assert_eq!(rendered.contains(control), thinks, "{role}: {rendered}");
        }
        assert_eq!(rendered.matches("<|im_end|>").count(), 1, "{role}");
        assert!(rendered.replace(MARK, "").contains(said), "{role}: {rendered}");
    }
}

#[test]
fn marks_go_where_special_tokens_are() {
    for (text, expected) in [
        ("plain <b>text</b> 1 < 2", "plain <b>text</b> 1 < 2"),
        ("a<image>b", "a<|image>b"),
        ("<s><s>", "<|s><|s>"),
        ("> quoted", "|> quoted"),
        (" a <", " a <|"),
        ("  im_end|>  ", "  |im_end|>  "),
        ("\u{FDD0}<im\u{FDD0}age>", "<|image>"),
    ] {
        // Shown as `|` where that can't be mistaken: none of these has one beside a mark.
        let marked = guard().neutralize(text);
        let shown = marked.replace(MARK, "|");
        assert_eq!(shown, expected, "{text:?}");
        for special in ["<|im_start|>", "<|im_end|>", "<image>", "<s>", "</s>"] {
            assert!(!marked.contains(special), "{text:?}");
        }
    }
}
