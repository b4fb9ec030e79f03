// The page "Explore": pictures and value follow the four choices, the slider uncovers the draw.
const values = JSON.parse(document.getElementById("values").textContent);
const slider = document.querySelector(".slider");
const picked = (name) => document.getElementById("pick-" + name).value;
const show = () => {
  const stem = `${picked("image")}_${picked("downscaler")}_x${picked("scale")}`;
  const files = { hr: picked("image"), draw: `${stem}_${picked("draw")}`, lr: `${stem}_lr` };
  for (const [name, file] of Object.entries(files)) {
    document.getElementById("shown-" + name).src = `_static/explore/${file}.png`;
  }
  const value = values[stem][picked("draw")].toFixed(3);
  document.getElementById("shown-value").textContent = `embedded LPIPS ${value}`;
};
for (const name of ["image", "downscaler", "scale", "draw"]) {
  document.getElementById("pick-" + name).addEventListener("change", show);
}
slider.querySelector("input").addEventListener("input", (event) => {
  slider.style.setProperty("--part", event.target.value + "%");
});
show();
