"""The table of third-party files: names, addresses, hashes, licences, and the notebooks that need each."""

from typing import NamedTuple


class Entry(NamedTuple):
    """One file, and how it is known to be the right one."""

    file: str
    urls: tuple[str, ...]  # tried in this order; what follows # is never sent, it says what the file is called here
    sha256: str  # may be a prefix, then only that much is checked; "" if none was published: the first use is recorded
    bytes: int | None  # of the whole file
    licence: str
    note: str = ""
    needed: tuple[str, ...] = ()  # numbers of the notebooks that open it in the paper's setting
    git: str = ""  # SHA-1 that `git hash-object` prints for the file; proves it as well as `sha256` does
    also: tuple[str, ...] = ()  # other names under which the file may lie in a folder
    instead: str = ""  # an entry whose file holds the same tensors and more, or from which they can be computed
    most: int = 1 << 28  # bytes that are downloaded at most where `bytes` is not known


TORCHVISION = "torchvision BSD-3-Clause; ImageNet-trained, no separate licence stated for the weights"
SRFLOW = "CC BY-NC-SA 4.0 (non-commercial, Huawei Technologies 2020)"
SRFLOW_NOTE = (
    "the official address (data.vision.ee.ethz.ch/alugmayr/SRFlow/pretrained_models.zip) has answered 404 "
    "since 2024 (andreas128/SRFlow issue 64) and no hash is known, so this file has to be put there by hand; "
    "its hash is recorded at first use, so only later changes are noticed"
)
UTEXAS = "free to use, copy, modify and distribute with its notice (University of Texas at Austin 2011)"
CONTRIQUE = "no licence stated (pavancm/CONTRIQUE)"
CONTRIQUE_REVISION = "f73233cd89a66bd4a0cc145fa911c8813a09a42b"
STYLEGAN = "CC BY-NC 4.0 (non-commercial, NVIDIA 2019), as a conversion of NVIDIA's network"
PULSE = "https://github.com/adamian98/pulse/raw"  # its later name is alex-damian/pulse
NOT_SEEN = "The real file was never seen here."
IRN = "https://github.com/xubingna/HCD/raw/b184972/codes/experiments/pretrained_models"  # copies beside its own code
IRN_FOLDER = "drive.google.com/drive/folders/1ym6DvYNQegDrOy_4z733HxrULa1XIN92"
TIRN = "https://github.com/Jingwei-Bao/T-InvBlocks/raw/main/experiments/pretrained_TIRN"
SAIN = "https://raw.githubusercontent.com/yang-jin-hai/SAIN/e361d7a0d34b31468f1e47b3e4f181b0e2ca7d46/experiments"
KAIR = "https://github.com/cszn/KAIR/releases/download/v1.0"  # where BSRGAN's main_download_pretrained_models.py looks
REAL_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
RESSHIFT = "https://github.com/zsyOAOA/ResShift/releases/download/v2.0"
SR3 = "Janspiry/Image-Super-Resolution-via-Iterative-Refinement"
HYPERTHUMBNAIL = "https://github.com/AbnerVictor/HyperThumbnail/releases/download/v0.0.1"

RRDB = (  # name, file, addresses, SHA-256, bytes, licence, what it is
    ("ESRGAN", "ESRGAN.pth", (f"{KAIR}/ESRGAN.pth",), "", None, "Apache-2.0 (xinntao/ESRGAN)",
     "ESRGAN for x4; the authors' RRDB_ESRGAN_x4.pth, in their cloud drive, will do under this name"),
    ("RRDB_PSNR_x4", "RRDB_PSNR_x4.pth", (), "", None, "Apache-2.0 (xinntao/ESRGAN)",
     "ESRGAN's network trained without GAN, in the authors' cloud drive (README of xinntao/ESRGAN)"),
    ("BSRGAN_x4", "BSRGAN.pth", (f"{KAIR}/BSRGAN.pth",), "", None, "Apache-2.0 (cszn/BSRGAN)", "BSRGAN for x4"),
    ("BSRGAN_x2", "BSRGANx2.pth", (f"{KAIR}/BSRGANx2.pth",), "", None, "Apache-2.0 (cszn/BSRGAN)", "BSRGAN for x2"),
    ("BSRNet", "BSRNet.pth", (f"{KAIR}/BSRNet.pth",), "", None, "Apache-2.0 (cszn/BSRGAN)",
     "BSRGAN's network for x4, trained without GAN"),
    ("RealESRGAN_x4plus", "RealESRGAN_x4plus.pth", (f"{REAL_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth",),
     "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1", 67_040_989,
     "BSD-3-Clause (xinntao/Real-ESRGAN)", "Real-ESRGAN for x4; third parties agree on the hash"),
    ("RealESRGAN_x2plus", "RealESRGAN_x2plus.pth", (f"{REAL_ESRGAN}/v0.2.1/RealESRGAN_x2plus.pth",),
     "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb", 67_061_725,
     "BSD-3-Clause (xinntao/Real-ESRGAN)", "Real-ESRGAN for x2; third parties agree on the hash"),
    ("RealESRNet_x4plus", "RealESRNet_x4plus.pth", (f"{REAL_ESRGAN}/v0.1.1/RealESRNet_x4plus.pth",), "", None,
     "BSD-3-Clause (xinntao/Real-ESRGAN)", "Real-ESRGAN's network for x4, trained without GAN"),
    ("RSR", "RSR.pth", (), "", None, "no licence stated (BCV-Uniandes/RSR refers to BasicSR's)",
     "RSR for x4, in the authors' cloud drive (README of BCV-Uniandes/RSR)"),
)  # fmt: skip


def _drive(number: str, file: str) -> tuple[str, ...]:
    """Addresses of a file on Google Drive: without the page about viruses, then as PULSE asks (drive.py)."""
    return (
        f"https://drive.usercontent.google.com/download?id={number}&export=download&confirm=t#{file}",
        f"https://drive.google.com/uc?id={number}#{file}",
    )


# torchvision's file names end in the first 8 hex digits of the SHA-256; several public projects pin all 64.
WEIGHTS = {
    "alexnet": Entry(
        "alexnet-owt-7be5be79.pth",
        ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        244_408_911,
        TORCHVISION,
        "trunk of LPIPS (its convolutions alone, alexnet_features_fp32.npz, will do as well)",
        ("03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13"),
    ),
    "alexnet_features": Entry(
        "alexnet_features_fp32.npz",
        (),
        "ca6339de1d4a1de17ac058eebb8dd3fb388fd15051f9bd36119143bba644b8fc",
        None,
        TORCHVISION,
        "the five convolutions of the file above, float32: all that LPIPS needs of it",
    ),
    "squeezenet": Entry(
        "squeezenet1_1-b8a52dc0.pth",
        ("https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",),
        "b8a52dc0",
        None,
        TORCHVISION,
        "features in which the second stage of the flow's training scores draws; nothing else needs it",
        most=1 << 24,
    ),
    "squeezenet_features": Entry(
        "squeezenet1_1_features_fp32.npz",
        (),
        "df3ed6344f3fdf43b4b384f850600f03f4e01909debe10c77790fba909828415",
        None,
        TORCHVISION,
        "the convolutions of the file above, float32: all that is needed of it",
    ),
    "vgg16": Entry(
        "vgg16-397923af.pth",
        ("https://download.pytorch.org/models/vgg16-397923af.pth",),
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553_433_881,
        TORCHVISION,
        "trunk of DISTS",
    ),
    "dists": Entry(
        "dists_weights.pt",
        ("https://github.com/photosynthesis-team/piq/releases/download/v0.4.1/dists_weights.pt",),
        "",
        None,
        "MIT (Ding et al. 2020), as released by piq (Apache-2.0)",
        "channel weights of DISTS; no hash was published, so the one of the first use is recorded",
        most=1 << 20,
    ),
    **{
        name: Entry(f"{name}.pth", (), "", None, SRFLOW, SRFLOW_NOTE, needed)
        for name, needed in (
            ("SRFlow_DF2K_4X", ("03", "04", "06", "07", "08", "09", "10", "11", "12")),
            ("SRFlow_DF2K_8X", ("08",)),
            ("SRFlow_CelebA_8X", ("03", "05", "06", "08")),
        )
    },
    "pulse_synthesis": Entry(
        "synthesis.pt",
        (
            *_drive("1TCViX1YpQyRsklTVYEJwdbmK91vklCo8", "synthesis.pt"),
            f"{PULSE}/b4b7e3a/cache/6b943ee69b8491ac40e8e9ced6175659_synthesis.pt",
        ),
        "",
        None,
        STYLEGAN,
        "the 1024x1024 face generator of StyleGAN as PULSE loads it (96,443,372 bytes of tensors); Google Drive "
        f"often refuses it (quota), its git history may still have it. {NOT_SEEN}",
        ("05",),
        git="b3cd79264e182bb13a33043698b0a3d65791f738",
        also=("6b943ee69b8491ac40e8e9ced6175659_synthesis.pt",),
        most=1 << 27,
        instead="stylegan_ffhq_for_g_all",
    ),
    "pulse_mapping": Entry(
        "mapping.pt",
        _drive("14R6iHGf5iuVx3DMNsACAl7eBr7Vdpd0k", "mapping.pt"),
        "",
        None,
        STYLEGAN,
        "from latents to styles (8,404,992 bytes of tensors): only to compute gaussian_fit.pt anew; no hash is known, "
        f"so the one of the first use is recorded. {NOT_SEEN}",
        also=("05118276f14e736e63065765a09feb78_mapping.pt",),
        most=1 << 24,
        instead="stylegan_ffhq_for_g_all",
    ),
    "pulse_gaussian_fit": Entry(
        "gaussian_fit.pt",
        (f"{PULSE}/40cacb97df28081e0edf8440a8c3f7c4e6205732/gaussian_fit.pt",),
        "6c638855d24ea56d40512cc6d8e7a6cac4c3db6fec232a0bf58e0f78d6336d16",
        4_566,
        STYLEGAN,
        "mean and spread of the styles, in PULSE's repository (which states no licence of its own). " + NOT_SEEN,
        ("05",),
        instead="pulse_mapping",
    ),
    "stylegan_ffhq_for_g_all": Entry(
        "karras2019stylegan-ffhq-1024x1024.for_g_all.pt",
        (
            "https://github.com/lernapparat/lernapparat/releases/download/v2019-02-01/"
            "karras2019stylegan-ffhq-1024x1024.for_g_all.pt",
        ),
        "",
        None,
        STYLEGAN,
        "lernapparat's conversion, mapping and synthesis in one file, taken where synthesis.pt or mapping.pt is not "
        f"to be had; no hash is known, so the one of the first use is recorded. {NOT_SEEN}",
    ),
    "face_landmarks": Entry(
        "shape_predictor_68_face_landmarks.dat",
        (
            *_drive("1huhv8PYpNNKbGCLOaYUjOgR1pY5pmbJx", "shape_predictor_68_face_landmarks.dat"),
            f"{PULSE}/b4b7e3a/cache/b3e61b9e2b05a24cd93cf529b98917c7_shape_predictor_68_face_landmarks.dat",
        ),
        "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
        99_693_937,
        "not for commercial products, says its author (davisking/dlib-models): trained on iBUG 300-W",
        "dlib's 68 face landmarks, only to align photographs of your own; the SHA-256 is the one that public projects "
        "pin for dlib.net/files/shape_predictor_68_face_landmarks.dat.bz2 once unpacked, the git hash that of PULSE's "
        f"copy, and either will do. {NOT_SEEN}",
        git="e0ec20d69ac9195f056214f071e12afcfe714199",
        also=("b3e61b9e2b05a24cd93cf529b98917c7_shape_predictor_68_face_landmarks.dat",),
    ),
    "niqe_official": Entry(
        "niqe_pris_params.npz",
        (
            "https://raw.githubusercontent.com/XPixelGroup/BasicSR/master/basicsr/metrics/niqe_pris_params.npz",
            "https://raw.githubusercontent.com/XPixelGroup/BasicSR/v1.4.2/basicsr/metrics/niqe_pris_params.npz",
        ),
        "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
        11_850,
        UTEXAS,
        "pristine model of NIQE; the same file is inside the package basicsr 1.4.2 on PyPI",
        ("07",),
    ),
    "brisque": Entry(
        "brisque_svr.npz",
        (),
        "",
        None,
        UTEXAS,
        "regressor of BRISQUE, converted from allmodel and allrange of the MATLAB release (utlive/BRISQUE) as "
        "helpers.iqa.natural.read_brisque says; its hash depends on who converts and is recorded at first use",
        ("07",),
    ),
    "brisque_opencv": Entry(
        "brisque_live_svr.npz",
        (),
        "a6b33b78946fbafe4840b7bc077a408ccce15eecafc0e67492f9675646e3bf0e",
        99_630,
        "Apache-2.0 (OpenCV contrib)",
        "another regressor for BRISQUE's features, converted from brisque_model_live.yml and "
        "brisque_range_live.yml of opencv_contrib, modules/quality/samples",
        ("07",),
    ),
    "maniqa": Entry(
        "ckpt_koniq10k.pt",
        (
            "https://github.com/IIGROUP/MANIQA/releases/download/Koniq10k/ckpt_koniq10k.pt",
            "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/ckpt_koniq10k.pt",
        ),
        "",
        None,
        "terms of IIGROUP/MANIQA; pyiqa: PolyForm Noncommercial",
        "MANIQA trained on KonIQ-10k, its ViT included; needs the package pyiqa (extra iqa)",
        ("07",),
        most=1 << 30,
    ),
    "contrique": Entry(
        "CONTRIQUE_checkpoint25.tar",
        ("https://utexas.box.com/shared/static/rhpa8nkcfzpvdguo97n2d5dbn4qb03z8.tar#CONTRIQUE_checkpoint25.tar",),
        "",
        None,
        CONTRIQUE,
        "ResNet-50 of CONTRIQUE; the score also needs one of the two regressors below",
        ("07",),
        most=1 << 29,
    ),
    **{
        f"contrique_{data.lower()}": Entry(
            f"{data}.save",
            (f"https://raw.githubusercontent.com/pavancm/CONTRIQUE/{CONTRIQUE_REVISION}/models/{data}.save",),
            "",
            None,
            CONTRIQUE,
            f"ridge regression of CONTRIQUE's features to the opinion scores of {data}; a pickle, of which only "
            "arrays are rebuilt",
            needed,
            most=1 << 20,
        )
        for data, needed in (("CLIVE", ("07",)), ("Koniq", ()))
    },
    **{
        f"IRN_x{scale}": Entry(
            f"IRN_x{scale}.pth",
            (f"{IRN}/IRN_x{scale}.pth",) if scale in (2, 4) else (),
            "",
            None,
            "Apache-2.0 (pkuxmq/Invertible-Image-Rescaling)",
            f"IRN, rescaler trained on DIV2K for x{scale}, as in the authors' folder {IRN_FOLDER}; no hash was "
            f"published. {NOT_SEEN}",
            {2: ("11",), 4: ("12",)}.get(scale, ()),
            most=1 << 26,
        )
        for scale in (2, 3, 4, 8)
    },
    **{
        f"TIRN_x{scale}": Entry(
            f"TIRNx{scale}.pth",
            (f"{TIRN}/TIRNx{scale}.pth",),
            "",
            None,
            "Apache-2.0 (Jingwei-Bao/T-InvBlocks)",
            f"T-IRN, rescaler trained on DIV2K for x{scale}; no hash was published. {NOT_SEEN}",
            ("11",) if scale == 2 else (),
            most=1 << 26,
        )
        for scale in (2, 4)
    },
    **{
        name: Entry(
            f"{name}.pth",
            (f"{SAIN}/pretrained_models/{name}.pth",),
            "",
            None,
            "Apache-2.0 (yang-jin-hai/SAIN)",
            f"SAIN, rescaler trained on DIV2K for x{scale} and {kind}; no hash was published. {NOT_SEEN}",
            ("11",) if name == "SAINx2_JPEG" else (),
            most=1 << 26,
        )
        for name, scale, kind in (
            ("SAINx2_JPEG", 2, "JPEG"),
            ("SAINx2_WebP", 2, "WebP"),
            ("SAINx4_JPEG", 4, "JPEG"),
        )
    },
    "HyperThumbnail_4x": Entry(
        "HyperThumbnail_4x_net_g_latest.pth",
        (f"{HYPERTHUMBNAIL}/HyperThumbnail_4x_net_g_latest.pth",),
        "",
        None,
        "MIT (AbnerVictor/HyperThumbnail)",
        f"HyperThumbnail, rescaler trained on DIV2K for x4; no hash was published. {NOT_SEEN}",
        ("11",),
        most=1 << 27,
    ),
    **{
        name: Entry(
            file,
            urls,
            sha256,
            size,
            licence,
            f"{note}. {NOT_SEEN}",
            () if name in ("BSRGAN_x2", "RealESRGAN_x2plus", "RealESRNet_x4plus") else ("09",),
            most=1 << 27,
        )  # fmt: skip
        for name, file, urls, sha256, size, licence, note in RRDB
    },
    **{
        name: Entry(
            f"{name}.pth",
            (f"{RESSHIFT}/{name}.pth",),
            "",
            None,
            "S-Lab License 1.0 (non-commercial, zsyOAOA/ResShift)",
            f"ResShift, {what}; no hash was published. {NOT_SEEN}",
            needed,
            most=1 << 29,
        )
        for name, what, needed in (
            ("resshift_realsrx4_s15_v1", "blind upscaler for x4, 15 steps, 300k iterations", ("09", "10")),
            ("resshift_realsrx4_s15_v2", "blind upscaler for x4, 15 steps, 500k iterations", ("10",)),
            ("resshift_realsrx4_s4_v3", "blind upscaler for x4, 4 steps, of the journal version", ("10",)),
            ("resshift_bicsrx4_s4", "upscaler for x4 of MATLAB's bicubic LR images, 4 steps", ("09", "10")),
            ("autoencoder_vq_f4", "the autoencoder of all its models", ("09", "10")),
        )
    },
    **{
        name: Entry(
            file,
            (),
            "",
            None,
            f"Apache-2.0 ({SR3})",
            f"SR3, unofficial, trained on FFHQ {sides}, in the cloud drive that the README of {SR3} links; no hash was "
            f"published. {NOT_SEEN}",
        )
        for name, file, sides in (
            ("sr3_16_128", "I640000_E37_gen.pth", "from 16 to 128 pixels"),
            ("sr3_64_512", "I830000_E32_gen.pth", "from 64 to 512 pixels"),
        )
    },
    "ffhq_features": Entry(
        "ffhq-features-dataset-9c4c7ef5132d.zip",
        (
            "https://github.com/DCGM/ffhq-features-dataset/archive/9c4c7ef5132d.zip#ffhq-features-dataset-9c4c7ef5132d.zip",
        ),
        "",
        None,
        "CC BY-NC-SA 4.0",
        "ages and genders of FFHQ by Microsoft's Face API, one JSON file an image; no hash was published",
        ("01",),
        most=1 << 30,
    ),
}
