//! The formats of a call's timeline.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::header;

use super::{
    html,
    state::PageParts,
    timeline::{perfetto::timeline_perfetto, text::timeline_text},
};
use crate::call::record::timeline::CallTimeline;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallFormat {
    Html,
    Text,
    Json,
    Perfetto,
}

impl CallFormat {
    /// The id in the last part of a path, and the format that it ends with.
    pub(super) fn split(name: &str) -> (&str, Self) {
        let endings = [
            (".perfetto.json", Self::Perfetto),
            (".json", Self::Json),
            (".txt", Self::Text),
        ];
        let of = |(ending, format)| Some((name.strip_suffix(ending)?, format));
        endings
            .into_iter()
            .find_map(of)
            .unwrap_or((name, Self::Html))
    }
}

/// The timeline in this format.
pub(super) fn call_in(
    format: CallFormat,
    timeline: &CallTimeline,
    page: &PageParts,
    home: &str,
) -> Response {
    match format {
        CallFormat::Html => {
            let has_host = page.sources.has_host();
            let form_token = page.form_token_for(timeline);
            html::call(timeline, home, form_token, has_host).into_response()
        }
        CallFormat::Text => timeline_text(timeline).into_response(),
        CallFormat::Json => Json(timeline).into_response(),
        CallFormat::Perfetto => {
            let id = timeline.id.map_or(0, |id| id.get());
            let name = format!("attachment; filename=\"call-{id}.perfetto.json\"");
            let kind = "application/json".to_owned();
            let headers = [
                (header::CONTENT_TYPE, kind),
                (header::CONTENT_DISPOSITION, name),
            ];
            (headers, timeline_perfetto(timeline)).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_path_is_its_format() {
        assert_eq!(CallFormat::split("8"), ("8", CallFormat::Html));
        assert_eq!(CallFormat::split("8.txt"), ("8", CallFormat::Text));
        assert_eq!(CallFormat::split("8.json"), ("8", CallFormat::Json));
        let perfetto = ("8", CallFormat::Perfetto);
        assert_eq!(CallFormat::split("8.perfetto.json"), perfetto);
    }
}
