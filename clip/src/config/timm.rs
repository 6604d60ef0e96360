//! The towers that open_clip takes from timm, as far as they are built here: SigLIP's and EVA-02's.

use super::{ImageSize, Layers, VisionConfig};
use crate::error::{Error, Result};
use crate::nn::Activation;
use serde_json::{Map, Value, json};

/// Family of a timm tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimmFamily {
    /// A vision transformer without class token, pooled by attention.
    SigLip,
    /// EVA-02 with norms inside its branches.
    Eva02,
}

impl TimmFamily {
    /// The `timm_pool` and `timm_proj` with which open_clip uses the family.
    fn pool_and_projection(self) -> (&'static str, &'static str) {
        match self {
            Self::SigLip => ("map", "none"),
            Self::Eva02 => ("token", ""),
        }
    }
}

/// What a timm name stands for, with the changes of `timm_model_kwargs`.
#[derive(Debug, Clone, PartialEq)]
pub struct TimmModel {
    pub family: TimmFamily,
    pub patch_size: usize,
    pub image_size: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub mlp_ratio: f64,
    pub activation: Activation,
}

/// Name without the image size, its sizes, family, patch size, and the exact or approximate GELU.
type Row = (&'static str, &'static [usize], Shape, usize, Activation);

/// Width, blocks, heads, MLP ratio.
type Shape = (usize, usize, usize, f64);

const BASE: Shape = (768, 12, 12, 4.0);
const LARGE: Shape = (1024, 24, 16, 4.0);
const SO400M: Shape = (1152, 27, 16, 3.7362);
const GIANT_OPT: Shape = (1536, 40, 16, 4.0);

const SIGLIP: [Row; 7] = {
    use Activation::{Gelu, GeluTanh};
    [
        ("vit_base_patch32_siglip_", &[256], BASE, 32, GeluTanh),
        (
            "vit_base_patch16_siglip_",
            &[224, 256, 384, 512],
            BASE,
            16,
            Gelu,
        ),
        ("vit_large_patch16_siglip_", &[256, 384], LARGE, 16, Gelu),
        ("vit_large_patch16_siglip_", &[512], LARGE, 16, GeluTanh),
        (
            "vit_so400m_patch14_siglip_",
            &[224, 378, 384],
            SO400M,
            14,
            Gelu,
        ),
        (
            "vit_so400m_patch16_siglip_",
            &[256, 384, 512],
            SO400M,
            16,
            GeluTanh,
        ),
        (
            "vit_giantopt_patch16_siglip_",
            &[256, 384],
            GIANT_OPT,
            16,
            GeluTanh,
        ),
    ]
};

const EVA02: [Row; 2] = {
    // Of the gated MLP.
    const THIRDS: f64 = 4.0 * 2.0 / 3.0;
    [
        (
            "eva02_base_patch16_clip_",
            &[224],
            (768, 12, 12, THIRDS),
            16,
            Activation::Gelu,
        ),
        (
            "eva02_large_patch14_clip_",
            &[224, 336],
            (1024, 24, 16, THIRDS),
            14,
            Activation::Gelu,
        ),
    ]
};

impl TimmModel {
    /// The model of a name, or an error that lists the names that are known.
    fn named(name: &str) -> Result<Self> {
        let siglip = SIGLIP.iter().map(|row| (TimmFamily::SigLip, row));
        let eva02 = EVA02.iter().map(|row| (TimmFamily::Eva02, row));
        let rows: Vec<_> = siglip.chain(eva02).collect();
        let known = |row: &Row| {
            row.1
                .iter()
                .map(|size| format!("{}{size}", row.0))
                .collect::<Vec<_>>()
        };
        // timm appends the name of a set of weights behind a dot; it says nothing of the shape.
        let (base, _) = name.split_once('.').unwrap_or((name, ""));
        for (family, row) in &rows {
            let (prefix, sizes, (width, layers, heads, mlp_ratio), patch_size, activation) = **row;
            let size = base.strip_prefix(prefix).and_then(|size| size.parse().ok());
            if let Some(image_size) = size.filter(|size| sizes.contains(size)) {
                return Ok(Self {
                    family: *family,
                    patch_size,
                    image_size,
                    width,
                    layers,
                    heads,
                    mlp_ratio,
                    activation,
                });
            }
        }
        let known: Vec<_> = rows.iter().flat_map(|(_, row)| known(row)).collect();
        Err(Error::Config(format!(
            "`vision_cfg.timm_model_name` = \"{name}\" is not supported; of timm's towers there are {}",
            known.join(", ")
        )))
    }

    /// The model of a tower's configuration; `None` where it is open_clip's own.
    ///
    /// # Errors
    ///
    /// Refuses unknown names and arguments by name.
    pub fn of(name: Option<&str>, kwargs: Option<&Map<String, Value>>) -> Result<Option<Self>> {
        let Some(name) = name else {
            return Ok(None);
        };
        let mut model = Self::named(name)?;
        for (key, value) in kwargs.into_iter().flatten() {
            let refused = || {
                Error::Config(format!(
                    "`vision_cfg.timm_model_kwargs.{key}` = {value} is not supported"
                ))
            };
            let number = || value.as_u64().map(|n| n as usize).ok_or_else(refused);
            match key.as_str() {
                "img_size" if value.is_array() => {} // height and width, said again by `image_size`
                "img_size" => model.image_size = number()?,
                "patch_size" => model.patch_size = number()?,
                "embed_dim" => model.width = number()?,
                "depth" => model.layers = number()?,
                "num_heads" => model.heads = number()?,
                "mlp_ratio" => model.mlp_ratio = value.as_f64().ok_or_else(refused)?,
                "act_layer" if model.family == TimmFamily::SigLip => {
                    model.activation = match value.as_str() {
                        Some("gelu") => Activation::Gelu,
                        Some("gelu_tanh") => Activation::GeluTanh,
                        _ => return Err(refused()),
                    }
                }
                _ => return Err(refused()),
            }
        }
        if model.heads == 0 || !model.width.is_multiple_of(model.heads) {
            return Err(Error::Config(format!(
                "`vision_cfg`: a width of {} does not divide among {} heads",
                model.width, model.heads
            )));
        }
        Ok(Some(model))
    }
}

impl VisionConfig {
    /// The timm model of this tower; `None` where it is open_clip's own.
    pub(super) fn timm(&self) -> Option<TimmModel> {
        let name = self.timm_model_name.as_deref();
        // A configuration that was read has been checked; one that was put together may name what is not there.
        TimmModel::of(name, self.timm_model_kwargs.as_ref()).unwrap_or(None)
    }

    /// Whether this tower is one of EVA-02's.
    pub(crate) fn is_eva02(&self) -> bool {
        self.timm()
            .is_some_and(|timm| timm.family == TimmFamily::Eva02)
    }

    /// SigLIP's tower by its shape, as open_clip would write it.
    pub(crate) fn siglip(
        image_size: usize,
        patch_size: usize,
        (width, layers, heads, mlp_ratio): (usize, usize, usize, f64),
        activation: Activation,
    ) -> Self {
        let act = match activation {
            Activation::GeluTanh => "gelu_tanh",
            _ => "gelu",
        };
        let hidden = |ratio: f64| (width as f64 * ratio) as usize;
        // The name alone where one fits.
        let named = SIGLIP.iter().find(|row| {
            let (w, l, h, ratio) = row.2;
            (w, l, h, hidden(ratio)) == (width, layers, heads, hidden(mlp_ratio))
                && (row.3, row.4) == (patch_size, activation)
                && row.1.contains(&image_size)
        });
        let (name, kwargs) = match named {
            Some(row) => (format!("{}{image_size}", row.0), None),
            None => {
                let kwargs = json!({
                    "img_size": image_size, "patch_size": patch_size, "embed_dim": width, "depth": layers,
                    "num_heads": heads, "mlp_ratio": mlp_ratio, "act_layer": act,
                });
                let name = "vit_base_patch16_siglip_224".to_string();
                (name, kwargs.as_object().cloned())
            }
        };
        Self {
            image_size: ImageSize::Square(image_size),
            layers: Layers::Blocks(layers),
            width,
            head_width: width / heads.max(1),
            mlp_ratio,
            patch_size,
            timm_model_name: Some(name),
            timm_pool: Some("map".into()),
            timm_proj: Some("none".into()),
            timm_model_kwargs: kwargs,
            ..Self::default()
        }
    }

    /// Another image size, also for who builds the tower by its timm name.
    pub(crate) fn set_image_size(&mut self, [height, width]: [usize; 2]) {
        self.image_size = match height == width {
            true => ImageSize::Square(height),
            false => ImageSize::Sides([height, width]),
        };
        if self
            .timm()
            .is_some_and(|timm| [timm.image_size; 2] != [height, width])
        {
            let kwargs = self.timm_model_kwargs.get_or_insert_default();
            let size = serde_json::to_value(self.image_size).expect("plain data");
            kwargs.insert("img_size".into(), size);
        }
    }
}

/// Writes into the fields of a `vision_cfg` the shape that its timm name stands for. open_clip looks at the name alone.
pub(super) fn expand(fields: &mut Map<String, Value>) -> Result<()> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_string);
    let kwargs = fields.get("timm_model_kwargs").and_then(Value::as_object);
    let name = text(fields.get("timm_model_name"));
    let Some(model) = TimmModel::of(name.as_deref(), kwargs)? else {
        // Without a name these say nothing.
        for field in ["timm_pool", "timm_proj", "timm_model_kwargs"] {
            fields.remove(field);
        }
        return Ok(());
    };
    let (pool, projection) = model.family.pool_and_projection();
    // The defaults are open_clip's. A null asks for the tower's own head, as the empty string does.
    let asked = |field: &str, default: &str| match fields.get(field) {
        None => default.to_string(),
        Some(value) => value.as_str().unwrap_or_default().to_string(),
    };
    for (field, default, built) in [
        ("timm_pool", "avg", pool),
        ("timm_proj", "linear", projection),
    ] {
        let asked = asked(field, default);
        if asked != built {
            return Err(Error::Config(format!(
                "`vision_cfg.{field}` = \"{asked}\" is not supported for `{}`, only \"{built}\"",
                name.unwrap_or_default()
            )));
        }
    }
    for (field, value) in [
        ("timm_pool", json!(pool)),
        ("timm_proj", json!(projection)),
        ("layers", json!(model.layers)),
        ("width", json!(model.width)),
        ("head_width", json!(model.width / model.heads)),
        ("mlp_ratio", json!(model.mlp_ratio)),
        ("patch_size", json!(model.patch_size)),
    ] {
        fields.insert(field.into(), value);
    }
    if fields.get("image_size").is_none_or(Value::is_null) {
        fields.insert("image_size".into(), json!(model.image_size));
    }
    Ok(())
}
