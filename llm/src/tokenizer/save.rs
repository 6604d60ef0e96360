//! Tokenizer → `tokenizer.json` and `tokenizer_config.json`.

use super::Tokenizer;
use crate::error::{Error, Result};
use crate::save::write_json;
use clip::checkpoint::write_whole;
use clip::tokenizer::check_ids;
use serde_json::{Value, json};
use std::path::Path;
use tokenizers::processors::template::TemplateProcessing;

impl Tokenizer {
    /// Writes the files that [`Self::from_directory`] and transformers read. Ids of a text are the same there, with the
    /// id that begins one in front, except that special tokens that a text spells are special there.
    ///
    /// # Errors
    ///
    /// Names the file that could not be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let path = directory.join("tokenizer.json");
        let wrong = |error: tokenizers::Error| Error::format(&path, error.to_string());
        check_ids(&self.inner).map_err(|problem| Error::format(&self.path, problem))?;
        let mut inner = self.inner.clone();
        inner.set_encode_special_tokens(false);
        if inner.get_post_processor().is_none()
            && let Some((bos, id)) = self.bos.and_then(|id| Some((inner.id_to_token(id)?, id)))
        {
            let built = TemplateProcessing::builder()
                .try_single(format!("{bos} $A"))
                .map_err(|error| Error::format(&path, error))?
                .special_tokens(vec![(bos, id)])
                .build()
                .map_err(|error| Error::format(&path, error.to_string()))?;
            inner.with_post_processor(Some(built));
        }
        let text = inner.to_string(false).map_err(wrong)?;
        write_whole(&path, text.as_bytes())?;
        let mut config = self.names();
        if let (Some(config), Some(read)) = (config.as_object_mut(), self.config.as_object()) {
            for (field, value) in read {
                // transformers 5 takes special tokens as plain strings only.
                let content = value.get("content").filter(|_| field.ends_with("_token"));
                config.insert(field.clone(), content.unwrap_or(value).clone());
            }
        }
        write_json(&directory.join("tokenizer_config.json"), &config)
    }

    fn names(&self) -> Value {
        let name = |id: Option<u32>| id.and_then(|id| self.inner.id_to_token(id));
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": name(self.bos),
            "eos_token": name(self.eos.first().copied()),
            "clean_up_tokenization_spaces": false,
        })
    }
}
