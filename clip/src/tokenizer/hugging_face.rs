//! Tokenizers of other models: any `tokenizer.json`, or WordPiece from BERT's `vocab.txt`.
//!
//! The files beside it (`tokenizer_config.json`, `special_tokens_map.json`) say which token fills a
//! row and which ones open and close a text; the embedding depends on them where a tower pools at
//! the last position.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, PostProcessor, PostProcessorWrapper, TruncationParams};

use super::error::{read_text, write_text};
use super::lengths::{check_ids, check_lengths};
use super::special_tokens::SpecialTokens;
use super::{Frame, TokenizerConfig, TokenizerError, TokenizerMode};

/// A tokenizer of the `tokenizers` crate together with the layout of its rows.
#[derive(Debug, Clone)]
pub(super) struct HuggingFace {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    vocab_size: usize,
    layout: Layout,
    pad: i32,
}

#[derive(Debug, Clone, Copy)]
enum Layout {
    /// As the tokenizer's own post-processor has it.
    Own {
        /// Id to append where the post-processor does not.
        append: Option<i32>,
        /// Id to overwrite by 0.
        strip: Option<i32>,
    },
    /// See [`TokenizerMode::Clips`].
    Clips { bos: i32, eos: i32, cls: i32 },
}

/// What a call of the `tokenizers` crate gives. It relies on some of what a file says, and panics where that is untrue.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err("the file contradicts itself".into()))
}

impl HuggingFace {
    /// Reads `tokenizer.json`, `vocab.json` (with `merges.txt` beside it) or `vocab.txt`, or the first of them that a
    /// directory has.
    pub fn load(path: &Path, config: &TokenizerConfig) -> Result<Self, TokenizerError> {
        let path = match path.is_dir() {
            true => ["tokenizer.json", "vocab.json", "vocab.txt"]
                .map(|name| path.join(name))
                .into_iter()
                .find(|file| file.is_file())
                .unwrap_or_else(|| path.join("tokenizer.json")),
            false => path.to_owned(),
        };
        let text = read_text(&path)?;
        let malformed = |e| TokenizerError::malformed(&path, e);
        let mut inner = if path.extension().is_some_and(|e| e == "txt") {
            guarded(|| word_piece(&text)).map_err(malformed)?
        } else if path.file_name().is_some_and(|name| name == "vocab.json") {
            let merges = read_text(&path.with_file_name("merges.txt"))?;
            guarded(|| clip_of_files(&text, &merges)).map_err(malformed)?
        } else {
            check_lengths(&text).map_err(|e| TokenizerError::malformed(&path, e))?;
            guarded(|| tokenizers::Tokenizer::from_bytes(&text)).map_err(malformed)?
        };
        let padding = inner.get_padding().map(|padding| padding.pad_id as i32);
        // Lengths belong to the model. Those of the file may be of any size, and would be allocated below.
        inner.with_padding(None);
        let _ = inner.with_truncation(None); // fails only for a stride
        let named = SpecialTokens::beside(&path, &inner)?;
        let bert = |token: &str| inner.token_to_id(token).map(|id| id as i32);
        let pad = named
            .id("pad_token")?
            .or(padding)
            .or(config.pad_id)
            .or(bert("[PAD]"))
            .unwrap_or(0);
        let mut drop_framing = false;
        let layout = match config.tokenizer_mode {
            Some(TokenizerMode::Clips) => Layout::Clips {
                bos: named.id("bos_token")?.or(config.bos_id).unwrap_or(1),
                eos: named.id("eos_token")?.or(config.eos_id).unwrap_or(2),
                cls: named.id("cls_token")?.or(bert("[CLS]")).unwrap_or(101),
            },
            None => {
                let strip = match config.tokenizer_kwargs.strip_sep_token {
                    true => Some(
                        named
                            .id("sep_token")?
                            .or(bert("[SEP]"))
                            .ok_or_else(|| named.missing("[SEP]", "sep_token"))?,
                    ),
                    false => None,
                };
                let says =
                    |field: &str, value: bool| named.fields.get(field) == Some(&Value::Bool(value));
                let (bos, eos) = (named.id("bos_token")?, named.id("eos_token")?);
                let framing = guarded(|| inner.encode_fast("", true))
                    .map_err(|e| TokenizerError::malformed(&path, e))?;
                let adds =
                    |id: Option<i32>| id.is_some_and(|id| framing.get_ids().contains(&(id as u32)));
                // The classes of Llama and Gemma make their post-processor anew of these two fields.
                drop_framing = says("add_bos_token", false) && adds(bos);
                let append = match says("add_eos_token", true)
                    || drop_framing && adds(eos) && !says("add_eos_token", false)
                {
                    true => eos.or(config.eos_id),
                    false => None,
                };
                Layout::Own { append, strip }
            }
        };
        if drop_framing {
            inner.with_post_processor(None::<PostProcessorWrapper>);
        }
        let mut this = Self {
            inner,
            path,
            vocab_size: config.vocab_size,
            layout,
            pad,
        };
        config.check_length(this.specials() + 1)?;
        this.truncate_to(config.context_length);
        this.check_id(this.pad)?;
        if let Layout::Clips { bos, eos, cls } = this.layout {
            [bos, eos, cls]
                .into_iter()
                .try_for_each(|id| this.check_id(id))?;
        }
        Ok(this)
    }

    /// Tokens that every text has besides its own.
    pub fn specials(&self) -> usize {
        match self.layout {
            Layout::Clips { .. } => 3,
            Layout::Own { append, .. } => {
                let added = self
                    .inner
                    .get_post_processor()
                    .map_or(0, |p| p.added_tokens(false));
                added + usize::from(append.is_some())
            }
        }
    }

    /// Sets the length to which texts are cut, which must exceed [`Self::specials`].
    pub fn truncate_to(&mut self, context_length: usize) {
        let params = TruncationParams {
            max_length: context_length,
            ..Default::default()
        };
        // Fails only for a stride, and there is none.
        let _ = self.inner.with_truncation(Some(params));
    }

    fn run(&self, text: &str, own: bool) -> Result<tokenizers::Encoding, TokenizerError> {
        guarded(|| self.inner.encode_fast(text, own)).map_err(|e| TokenizerError::encode(text, e))
    }

    /// Ids of a cleaned text with special tokens, without padding.
    pub fn encode(&self, text: &str, context_length: usize) -> Result<Vec<i32>, TokenizerError> {
        let own = matches!(self.layout, Layout::Own { .. });
        let encoding = self.run(text, own)?;
        let mut ids: Vec<i32> = encoding.get_ids().iter().map(|&id| id as i32).collect();
        if ids.len() > context_length {
            // It says how many tokens it adds, and may not keep its word: a template can name the text twice.
            let reason = format!(
                "its post-processor makes rows of {} tokens where {context_length} were asked for",
                ids.len()
            );
            return Err(TokenizerError::malformed(&self.path, reason));
        }
        match self.layout {
            Layout::Clips { bos, eos, .. } => {
                ids.truncate(context_length - 3);
                ids.insert(0, bos);
                ids.push(eos);
            }
            Layout::Own { append, strip } => {
                if let Some(eos) = append.filter(|eos| ids.last() != Some(eos)) {
                    ids.truncate(context_length - 1);
                    ids.push(eos);
                }
                // The reference writes 0 here, whatever the padding is.
                ids.iter_mut()
                    .filter(|id| strip == Some(**id))
                    .for_each(|id| *id = 0);
            }
        }
        ids.iter().try_for_each(|&id| self.check_id(id))?;
        Ok(ids)
    }

    /// Whether a cleaned text loses tokens in [`Self::encode`].
    pub fn is_truncated(&self, text: &str, context_length: usize) -> Result<bool, TokenizerError> {
        let own = matches!(self.layout, Layout::Own { .. });
        let encoding = self.run(text, own)?;
        let room = match self.layout {
            Layout::Clips { .. } => context_length - 3,
            Layout::Own { append: None, .. } => context_length,
            Layout::Own {
                append: Some(eos), ..
            } => {
                let appended = encoding.get_ids().last() != Some(&(eos as u32));
                context_length - usize::from(appended)
            }
        };
        Ok(!encoding.get_overflowing().is_empty() || encoding.len() > room)
    }

    /// Ids of a cleaned text without special tokens, not cut.
    pub fn pieces(&self, text: &str) -> Result<Vec<i32>, TokenizerError> {
        let encoding = self.run(text, false)?;
        let parts = std::iter::once(&encoding).chain(encoding.get_overflowing());
        let ids: Vec<i32> = parts
            .flat_map(|part| part.get_ids())
            .map(|&id| id as i32)
            .collect();
        ids.iter().try_for_each(|&id| self.check_id(id))?;
        Ok(ids)
    }

    /// See [`super::Tokenizer::frame_ids`].
    pub fn frame_ids(&self) -> Option<Frame> {
        match self.layout {
            Layout::Clips { bos, eos, cls } => Some(Frame {
                start: bos,
                end: eos,
                class: Some(cls),
            }),
            Layout::Own { .. } => None,
        }
    }

    fn check_id(&self, id: i32) -> Result<(), TokenizerError> {
        if usize::try_from(id).is_ok_and(|id| id < self.vocab_size) {
            return Ok(());
        }
        let (path, vocab_size) = (self.path.clone(), self.vocab_size);
        Err(TokenizerError::Vocabulary {
            path,
            id,
            vocab_size,
        })
    }

    /// Id that fills rows.
    pub fn pad_id(&self) -> i32 {
        self.pad
    }

    /// Id at the last position of every row, if the layout has one.
    pub fn class_id(&self) -> Option<i32> {
        match self.layout {
            Layout::Clips { cls, .. } => Some(cls),
            Layout::Own { .. } => None,
        }
    }

    /// Tokens in the tokenizer's own vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Text of ids; empty if the tokenizer has no decoder for them.
    pub fn decode(&self, ids: &[i32]) -> String {
        let ids: Vec<u32> = ids.iter().filter_map(|&id| id.try_into().ok()).collect();
        guarded(|| self.inner.decode(&ids, false)).unwrap_or_default()
    }

    /// Writes `tokenizer.json` and the names of the special tokens.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        let path = dir.join("tokenizer.json");
        check_ids(&self.inner).map_err(|e| TokenizerError::malformed(&self.path, e))?;
        let mut inner = self.inner.clone();
        // The length belongs to the model, not to the file.
        let _ = inner.with_truncation(None);
        let json = inner
            .to_string(false)
            .map_err(|e| TokenizerError::malformed(&path, e))?;
        write_text(&path, &json)?;
        let name = |id: i32| self.inner.id_to_token(id as u32);
        let mut fields = Map::new();
        let mut put = |field: &str, id: Option<i32>| {
            if let Some(token) = id.and_then(name) {
                fields.insert(field.to_owned(), Value::String(token));
            }
        };
        put("pad_token", Some(self.pad));
        match self.layout {
            Layout::Clips { bos, eos, cls } => {
                put("bos_token", Some(bos));
                put("eos_token", Some(eos));
                put("cls_token", Some(cls));
            }
            Layout::Own { append, strip } => {
                put("eos_token", append);
                put("sep_token", strip);
                if append.is_some() {
                    fields.insert("add_eos_token".to_owned(), Value::Bool(true));
                }
            }
        }
        fields.insert(
            "tokenizer_class".to_owned(),
            "PreTrainedTokenizerFast".into(),
        );
        write_text(
            &dir.join("tokenizer_config.json"),
            &format!("{:#}\n", Value::Object(fields)),
        )
    }
}

/// As OpenAI's vocabulary and transformers spell them.
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// CLIP's tokenizer as transformers makes it of `vocab.json` and `merges.txt`: no clean-up but normal form C, single spaces
/// and small letters.
fn clip_of_files(vocab: &str, merges: &str) -> tokenizers::Result<tokenizers::Tokenizer> {
    let vocab: Map<String, Value> = serde_json::from_str(vocab)?;
    let merges: Vec<&str> = merges
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("#version"))
        .collect();
    let id = |token: &str| match vocab.get(token) {
        Some(id) => Ok(id.clone()),
        None => Err(format!(
            "no `{token}`, which a vocabulary of CLIP has; other models need a tokenizer.json"
        )),
    };
    let (start, end) = (id(START)?, id(END)?);
    let special = |content: &str, id: &Value| {
        json!({
            "id": id, "content": content, "special": true, "normalized": true,
            "single_word": false, "lstrip": false, "rstrip": false,
        })
    };
    let words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let bytes = |prefix: bool| json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true });
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [special(START, &start), special(END, &end)],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
            { "type": "Lowercase" },
        ] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": words }, "behavior": "Removed", "invert": true },
            bytes(false),
        ] },
        "post_processor": {
            "type": "RobertaProcessing", "sep": [END, end], "cls": [START, start],
            "trim_offsets": false, "add_prefix_space": false,
        },
        "decoder": bytes(true),
        "model": {
            "type": "BPE", "unk_token": END, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
            "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges,
        },
    });
    tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&tokenizer)?)
}

/// BERT's uncased tokenizer: lower case, no accents, spaces around Chinese characters.
fn word_piece(vocab: &str) -> tokenizers::Result<tokenizers::Tokenizer> {
    let vocab = WordPiece::read_bytes(vocab.as_bytes())?;
    let model = WordPiece::builder()
        .vocab(vocab)
        .unk_token("[UNK]".to_owned())
        .build()?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, None, true)));
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));
    let id = |token: &str| {
        tokenizer
            .token_to_id(token)
            .ok_or_else(|| format!("a BERT vocabulary has a line {token}"))
    };
    let (sep, cls, _) = (id("[SEP]")?, id("[CLS]")?, id("[UNK]")?);
    tokenizer.with_post_processor(Some(BertProcessing::new(
        ("[SEP]".into(), sep),
        ("[CLS]".into(), cls),
    )));
    let specials = ["[UNK]", "[SEP]", "[CLS]", "[PAD]", "[MASK]"];
    let present = specials
        .iter()
        .filter(|token| tokenizer.token_to_id(token).is_some());
    let added: Vec<AddedToken> = present
        .map(|&token| AddedToken::from(token, true))
        .collect();
    tokenizer.add_special_tokens(&added);
    Ok(tokenizer)
}
